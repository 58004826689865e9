"""Low-rank adapters (LoRA, arXiv:2106.09685) by PEFT: put on before training, merged into the weights after it."""

from pathlib import Path

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..hub.card_facts import public


def with_adapters(model: PreTrainedModel, rank: int):
    """The model, frozen, with an adapter of this rank on every linear layer of its blocks; alpha is twice the rank.

    A classifier is trained as a whole, as it may be new. Returns a `PeftModel`.

    Raises:
        ImportError: The extra `peft` is not installed.
        ValueError: The model has no linear layers, as one of cells.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ImportError("--lora_rank needs the package peft; install it with pip install -e '.[peft]'") from None
    # Which classes the layers have: GPT-2's keep their weights as (inputs, outputs).
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    if all(name.split(".")[-1] == "classifier" for name in linear):
        raise ValueError(
            f"lora_rank={rank}: {type(model).__name__} has no linear layer beside its classifier for an adapter; leave it out"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        modules_to_save=["classifier"] if hasattr(model, "classifier") else None,
        fan_in_fan_out=transposed,
    )
    return get_peft_model(model, config)


def merge(model, folder: Path | None = None) -> PreTrainedModel:
    """The model with its adapters added to the weights: `W + alpha / rank * B A`; the adapters alone are left in a folder.

    Args:
        model: A `PeftModel`.
        folder: Where to leave them, or None.
    """
    if folder is not None:
        config = model.peft_config["default"]
        config.base_model_name_or_path = public(config.base_model_name_or_path or "")
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # an empty form; the model beside it has a card
    return model.merge_and_unload()
