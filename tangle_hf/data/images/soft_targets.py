"""Labels that are distributions over the classes, and their loss."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def soft_cross_entropy(
    labels: Tensor, logits: Tensor | None = None, config=None, pooled_logits: Tensor | None = None, **unused
) -> Tensor:
    """Cross-entropy -sum_c labels_c log softmax(logits)_c, mean over examples; the signature is that of transformers.

    Args:
        labels: Distributions (examples, classes), or class numbers (examples,).
        logits: (examples, classes).
        config: Not used, nor is anything else that a forward pass hands on.
        pooled_logits: The logits of models that call them so, as ConvNeXt does.
    """
    logits = logits if pooled_logits is None else pooled_logits
    return torch.nn.functional.cross_entropy(logits.float(), labels.to(logits.device))


def use_soft_targets(model: PreTrainedModel) -> None:
    """Makes the model's own loss take distributions as labels, in place; class numbers still work.

    Without it transformers takes float labels for those of a multi-label problem: it would train with a binary loss and
    write that problem type into the checkpoint, whose pipeline would then use a sigmoid.
    """
    model.config.problem_type = "single_label_classification"
    model.loss_function = soft_cross_entropy
    model.accepts_loss_kwargs = False  # a mean over examples: Trainer has to divide it by the accumulated batches


def takes_soft_targets(model: PreTrainedModel) -> bool:
    """Whether `use_soft_targets` was called for a model."""
    return getattr(model, "_loss_function", None) is soft_cross_entropy  # the public name guesses where there is none
