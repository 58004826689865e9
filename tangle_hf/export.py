"""Export: a subnet as a folder that plain transformers loads, checked by loading it again."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from .arch import one_hot
from .extract import extract
from .space import Architecture


@dataclass(frozen=True)
class Export:
    """What was written: the folder, its form, and how far its logits are from the supernet's.

    Args:
        folder: Where it is.
        form: "stock", "padded" or "compact".
        difference: Largest absolute difference of logits between the reloaded files and the supernet under the one-hot.
        scale: Largest absolute logit, to judge the difference by.
    """

    folder: Path
    form: str
    difference: float
    scale: float


def export(
    supernet: PreTrainedModel,
    arch: Architecture,
    folder: str | Path,
    inputs: Mapping[str, Tensor],
    form: str = "auto",
    processor=None,
) -> Export:
    """Writes a subnet with its tokenizer or image processor, reloads it through the Auto class and compares logits.

    The folder appears under its name only when it is whole and has been compared.

    Args:
        supernet: An `Elastic*` model.
        arch: An architecture of its space.
        folder: Where to write; an earlier export there is replaced.
        inputs: Arguments of one forward pass, e.g. `{"input_ids": ...}` or `{"pixel_values": ...}`, for the comparison.
        form: As in `tangle_hf.extract`.
        processor: Tokenizer or image processor to save along, or None.

    Raises:
        ValueError: As `extract`, or the reloaded model differs by more than 1e-3 of the logits' scale.
    """
    folder = Path(folder)
    subnet = extract(supernet, arch, form)
    if form == "auto":
        form = next(name for name, reason in supernet.subnet_forms(supernet.config, arch).items() if reason is None)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    quiet = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        subnet.save_pretrained(partial)
        if processor is not None:
            processor.save_pretrained(partial)
        (partial / "architecture.json").write_text(arch.to_json() + "\n")
        difference, scale = compare(supernet, arch, partial, inputs, remote_code=form == "compact")
    finally:
        if quiet:
            logging.enable_progress_bar()
    if not difference <= 1e-3 * scale:
        raise ValueError(
            f"the files in {partial} differ from the supernet by {difference:.1e} (logits up to {scale:.1e})"
        )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Export(folder, form, difference, scale)


def compare(
    supernet: PreTrainedModel, arch: Architecture, folder: Path, inputs: Mapping[str, Tensor], remote_code: bool
) -> tuple[float, float]:
    """Largest difference of logits between a folder's model and the supernet under the one-hot, and the logits' scale."""
    reloaded = supernet.auto_model.from_pretrained(folder, trust_remote_code=remote_code, dtype=supernet.dtype)
    reloaded = reloaded.to(supernet.device).eval()
    training = supernet.training
    supernet.eval()
    with torch.no_grad():
        expected = supernet(**inputs, mixture=one_hot(supernet.space, arch)).logits
        found = reloaded(**inputs).logits
    supernet.train(training)
    return (found - expected).abs().max().item(), expected.abs().max().item()
