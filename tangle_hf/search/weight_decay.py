"""Which parameters weight decay pulls to zero, in searches and in the training of plain nets."""

import re

from torch import Tensor, nn


# Tables that are added to tokens, and tokens that are learnt, by the names that transformers and timm give them.
ADDED = re.compile(r"position|pos_embed|(^|\.)wpe\.|_tokens?$")


def decays(name: str, parameter: Tensor) -> bool:
    """Matrices, kernels and embeddings of tokens do; biases, norms, position tables, class and mask tokens do not.

    Args:
        name: Name of the parameter in its model.
        parameter: The parameter; what has one axis is a bias or belongs to a norm.
    """
    return parameter.ndim >= 2 and not ADDED.search(name)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The parameters of a model for an optimizer, those that decay first.

    Args:
        model: The model.
        weight_decay: Weight decay of the first group; the second has none.
    """
    named = list(model.named_parameters())
    return [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
