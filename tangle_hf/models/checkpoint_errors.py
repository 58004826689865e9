"""Checkpoints that cannot be read, or not as a whole: one error that names them, whichever library met it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel


logger = logging.getLogger(__name__)
NAMED = 3  # parameters that a message names
REBUILT = (".num_batches_tracked",)  # counters of batch norms, which older versions of torch did not save


@contextmanager
def reading_checkpoint(option: str, checkpoint: str) -> Iterator[None]:
    """Within it, a checkpoint that is missing, incomplete or damaged is an error of the user.

    Args:
        option: The setting that names the checkpoint.
        checkpoint: Folder or Hub name.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        yield
    except (OSError, SafetensorError, UnpicklingError, StrictDataclassError) as error:
        raise ValueError(
            f"{option}={checkpoint} could not be loaded ({' '.join(str(error).split())}); give a folder that "
            "save_pretrained wrote, with config.json and the weights, or a Hub name"
        ) from error


@contextmanager
def reading_processor(checkpoint: str | Path) -> Iterator[None]:
    """Within it, a tokenizer or an image processor that is damaged is an error of the user.

    Raises:
        ValueError: So.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises nothing more special, and each kind of damage has another type
        raise ValueError(
            f"the tokenizer or image processor of {checkpoint} is damaged ({first_lines(error)}); copy or write it again"
        ) from error


def first_lines(error: Exception) -> str:
    """What a library says of a file as one line, without its advice."""
    found = [line.strip() for line in str(error).strip().split("\n")]
    return " ".join(found[: 2 if isinstance(error, StrictDataclassError) else 1]) or type(error).__name__


def load_whole(
    load: Callable, checkpoint: str | Path, *args, new_head: bool = False, **how
) -> PreTrainedModel | tuple[PreTrainedModel, dict]:
    """A model all of whose weights come from its checkpoint; transformers would draw those that are missing at random.

    Args:
        load: `from_pretrained` of a class.
        checkpoint: Folder or Hub name.
        *args: As in transformers.
        new_head: Whether what lies outside the body, the base model, may be missing and begin with new weights.
        **how: As in transformers.

    Raises:
        ValueError: Weights are missing, have other sizes than the config says, or are not finite.
    """
    told = how.pop("output_loading_info", False)
    try:
        with _without_table():
            model, info = load(checkpoint, *args, output_loading_info=True, **how)
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):  # a GPU without memory, for one
            raise
        raise ValueError(
            f"{checkpoint} holds weights of other sizes than its config.json says; copy or write both again"
        ) from error
    kind, body = type(model).__name__, f"{model.base_model_prefix}."
    missing = sorted(name for name in info["missing_keys"] if not name.endswith(REBUILT))
    if missing and not (new_head and not any(name.startswith(body) for name in missing)):
        raise ValueError(
            f"{checkpoint} lacks {len(missing)} of the weights of a {kind} ({_some(missing)}), which would be drawn at "
            "random; copy or write it again"
        )
    if missing:
        logger.warning(f"{checkpoint} has no head of a {kind}, which begins with new weights: {_some(missing)}")
    if unused := sorted(info["unexpected_keys"]):
        logger.warning(f"{checkpoint} holds {len(unused)} weights that a {kind} has no place for: {_some(unused)}")
    if broken := not_finite(model):
        raise ValueError(
            f"{checkpoint} holds weights that are not finite ({_some(broken)}): the training that wrote it has diverged, or "
            "half precision was too narrow for it; use an earlier checkpoint"
        )
    return (model, info) if told else model


@contextmanager
def _without_table() -> Iterator[None]:
    """Without what transformers prints of weights that do not fit, a table of them; `load_whole` says it in one line."""
    printing = logging.getLogger("transformers.modeling_utils")  # what its level is decides on other messages, too
    printing.addFilter(_is_no_table)
    try:
        yield
    finally:
        printing.removeFilter(_is_no_table)


def _is_no_table(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters and saved buffers of a model that hold NaN or infinity."""
    return [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all()
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
