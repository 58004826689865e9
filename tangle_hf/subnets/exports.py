"""Export: a subnet as a folder that plain transformers loads, checked by loading it again."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from ..arch_parameters import one_hot
from ..files import replacing
from ..models.example_inputs import example_inputs
from ..models.generation import with_pad_token
from ..space import Architecture
from .extraction import extract, natural_form


EXPORT = ("architecture.json", "config.json")  # what every exported folder has


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
    inputs: Mapping[str, Tensor] | None = None,
    form: str = "auto",
    processor=None,
) -> Export:
    """Writes a subnet with its tokenizer or image processor, reloads it through the Auto class and compares logits.

    The folder appears under its name only when it is whole and has been compared.

    Args:
        supernet: An `Elastic*` model.
        arch: An architecture of its space.
        folder: Where to write; an earlier export there is replaced.
        inputs: Arguments of one forward pass, e.g. `{"input_ids": ...}` or `{"pixel_values": ...}`, for the comparison;
            made up if None.
        form: "stock", "padded" or "compact"; "auto": stock where the architecture has that form, else compact.
        processor: Tokenizer or image processor to save along, or None. A tokenizer without a pad token gets its end of text
            as one in the files.

    Raises:
        ValueError: The architecture is not of this space or does not have the form, the reloaded model differs by more than
            1e-3 of the logits' scale, or the folder holds something else than an earlier export.
    """
    folder = Path(folder)
    inputs = example_inputs(supernet) if inputs is None else inputs
    subnet = extract(supernet, arch, form)
    if form == "auto":
        form = natural_form(supernet, arch)
    progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with replacing(folder, *EXPORT) as partial:
            subnet.save_pretrained(partial)
            if processor is not None:
                with_pad_token(processor).save_pretrained(partial)
            (partial / "architecture.json").write_text(arch.to_json() + "\n")
            difference, scale = compare(supernet, arch, partial, inputs, remote_code=form == "compact")
            if not difference <= 1e-3 * scale:
                raise ValueError(
                    f"the files of {folder} would differ from the supernet by {difference:.1e} (logits up to {scale:.1e}); "
                    "nothing was written"
                )
    finally:
        if progress:
            logging.enable_progress_bar()
    return Export(folder, form, difference, scale)


def read_architecture(path: str | Path) -> Architecture:
    """Reads an `architecture.json`: one object, dimension -> choice, or list of one choice per layer.

    Choices are numbers or, of cells, names of operations; null stands for a layer that does not exist.

    Raises:
        ValueError: There is no such file, or it is no such object.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no architecture file {path}")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict) or not all(_is_choice(v) for value in values.values() for v in _listed(value)):
        raise ValueError(
            f'{path} is no architecture; it should read like {{"n_embd": 64, "n_layer": 2, "n_head": [2, 4], ...}}'
        )
    return Architecture(values)


def compare(
    supernet: PreTrainedModel, arch: Architecture, folder: Path, inputs: Mapping[str, Tensor], remote_code: bool
) -> tuple[float, float]:
    """Largest difference of logits between a folder's model and the supernet under the one-hot, and the logits' scale.

    In float32: both have the same weights in half precision, too, but their logits would differ by its rounding.
    """
    training = supernet.training
    dtype = torch.promote_types(supernet.dtype, torch.float32)
    if supernet.dtype != dtype:
        supernet = copy.deepcopy(supernet).to(dtype)
    inputs = {name: values.to(dtype) if values.is_floating_point() else values for name, values in inputs.items()}
    reloaded = supernet.auto_model.from_pretrained(folder, trust_remote_code=remote_code, dtype=dtype)
    reloaded = reloaded.to(supernet.device).eval()
    supernet.eval()
    with torch.no_grad():
        expected = supernet(**inputs, mixture=one_hot(supernet.space, arch)).logits
        found = reloaded(**inputs).logits
    supernet.train(training)
    return (found - expected).abs().max().item(), expected.abs().max().item()


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _is_choice(value: object) -> bool:
    return value is None or (isinstance(value, (int, float, str)) and not isinstance(value, bool))
