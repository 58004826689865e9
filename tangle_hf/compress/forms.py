"""Other forms of a finished net, on request beside its natural one: padded to a stock class, ONNX, GGUF."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..axes import named_tensors, pad_parameters
from ..errors import check_extra
from ..space import Architecture
from ..subnets.extraction import new_subnet
from ..subnets.gguf_exports import export_gguf
from ..subnets.onnx_exports import export_onnx
from .results import save_net


PADDED, ONNX, GGUF = FORMS = ("padded", "onnx", "gguf")


def check_forms(forms: Sequence[str], text: bool) -> None:
    """Refuses, before anything is computed, what cannot be written.

    Args:
        forms: Names of `FORMS`.
        text: Whether the checkpoint is a language model.

    Raises:
        ValueError: A form is unknown, or the checkpoint is an image classifier and GGUF is asked for.
        MissingExtra: The packages of a form are not installed.
    """
    if unknown := sorted(set(forms) - set(FORMS)):
        raise ValueError(f"forms={unknown} are unknown; choose from {', '.join(FORMS)}")
    if GGUF in forms and not text:
        raise ValueError("forms: GGUF is for language models; leave gguf out")
    if ONNX in forms:
        check_extra("onnx", "onnxruntime", "onnxscript")
    if GGUF in forms:
        check_extra("gguf", "gguf")


def leave_forms(
    forms: Sequence[str],
    model: PreTrainedModel,
    supernet: PreTrainedModel,
    arch: Architecture,
    folder: Path,
    examples,
) -> dict[str, str]:
    """Writes other forms of a net beside its folder, `FOLDER-padded` and so on, each compared with the net.

    Where GGUF has no form of the net itself, the padded one is written in its place.

    Args:
        forms: Names of `FORMS`.
        model: The net.
        supernet: The checkpoint, of which it is a part.
        arch: Its architecture.
        folder: Its natural form.
        examples: Data of the comparison, and the processor.

    Returns:
        Of each form what came of it, in words; a net that has no such form is no error, since it is finished.
    """
    done, model = {}, model.eval()
    for form in forms:
        target = folder.with_name(f"{folder.name}-{form}")
        try:
            if form == PADDED:
                difference = save_net(padded(model, supernet, arch), target, arch, examples, supernet.auto_model)
                done[form] = f"{target}, logits within {difference:.1e}"
            elif form == ONNX:
                written = export_onnx(model, target, examples.processor, arch)
                done[form] = f"{target}, logits within {written.difference:.1e}"
            else:
                done[form] = _leave_gguf(model, supernet, arch, target, examples.processor)
        except ValueError as error:
            done[form] = f"not written: {error}"
    return done


@torch.no_grad()
def padded(model: PreTrainedModel, supernet: PreTrainedModel, arch: Architecture) -> PreTrainedModel:
    """A trained net in its padded form, a plain class whose layers are filled up with zeros.

    Raises:
        ValueError: The architecture does not have it.
    """
    net = new_subnet(supernet, arch, "padded")
    target = named_tensors(net, supernet.axes)
    for tensor in target.values():
        tensor.zero_()
    pad_parameters(named_tensors(model, supernet.axes), target, supernet.padded_axes(supernet.config, arch), arch)
    return net


def _leave_gguf(model: PreTrainedModel, supernet: PreTrainedModel, arch: Architecture, folder: Path, tokenizer) -> str:
    try:
        written = export_gguf(model, folder, tokenizer, arch)
    except ValueError as error:
        if supernet.subnet_forms(supernet.config, arch)["padded"] is not None:
            raise
        written = export_gguf(padded(model, supernet, arch), folder, tokenizer, arch)
        return f"{folder}, {written.kind} in llama.cpp, padded: {error}"
    return f"{folder}, {written.kind} in llama.cpp"
