"""Extraction: architecture + axis table -> parameters -> a Hugging Face model with the supernet's weights."""

import copy

import torch
from transformers import PreTrainedModel

from ..axes import named_tensors, pad_parameters
from ..data.images.soft_targets import takes_soft_targets, use_soft_targets
from ..models.generation import set_generation_defaults
from ..space import Architecture


def extract(supernet: PreTrainedModel, arch: Architecture, form: str = "auto") -> PreTrainedModel:
    """Cuts a subnet out of a supernet as a Hugging Face model of its own; the weights are copies.

    Args:
        supernet: An `Elastic*` model.
        arch: An architecture of its space.
        form: "stock": a plain transformers class. "compact": layers of different sizes, loaded with
            `trust_remote_code=True`. "padded": a plain class, layers filled up with zeros, exact but as large as its
            largest layer. "auto": stock where it can be, else compact.

    Returns:
        The subnet in evaluation mode, on the device and in the type of the supernet, with its loss.

    Raises:
        ValueError: The architecture is not of this space, the form is unknown, or the architecture does not have it.
    """
    subnet = new_subnet(supernet, arch, form)
    with torch.no_grad():
        cut = supernet.slices(arch)
        target = named_tensors(subnet, supernet.axes)
        if form == "padded":
            for tensor in target.values():
                tensor.zero_()
            pad_parameters(cut, target, supernet.padded_axes(supernet.config, arch), arch)
        else:
            for name, tensor in target.items():
                tensor.copy_(cut[name])
    for name, tensor in target.items():
        if tensor.dtype != cut[name].dtype:  # a buffer that a supernet in half precision does not round
            module, _, buffer = name.rpartition(".")
            setattr(subnet.get_submodule(module), buffer, cut[name].clone())
    return subnet


def new_subnet(supernet: PreTrainedModel, arch: Architecture, form: str = "auto") -> PreTrainedModel:
    """A subnet with new random weights, in evaluation mode, on the device and in the type of the supernet.

    Args:
        supernet: An `Elastic*` model; nothing is read of its weights.
        arch: An architecture of its space.
        form: "stock", "padded" or "compact"; "auto": stock where the architecture has that form, else compact.

    Raises:
        ValueError: The architecture is not of this space, the form is unknown, or the architecture does not have it.
    """
    supernet.space.validate(arch)
    reasons = supernet.subnet_forms(supernet.config, arch)
    if form == "auto":
        form = natural_form(supernet, arch)
    if form not in reasons:
        raise ValueError(f"form={form!r} is unknown; choose one of {['auto', *reasons]}")
    if reasons[form] is not None:
        raise ValueError(f"this architecture has no {form} form: {reasons[form]}")
    subnet_class, config = supernet.subnet_skeleton(supernet.config, arch, form)
    subnet = subnet_class(config).to(device=supernet.device, dtype=supernet.dtype).eval()
    subnet.loss_type = supernet.loss_type
    if takes_soft_targets(supernet):
        use_soft_targets(subnet)
    if supernet.can_generate():
        subnet.generation_config = copy.deepcopy(supernet.generation_config)
        set_generation_defaults(subnet)
    return subnet


def natural_form(supernet: PreTrainedModel, arch: Architecture) -> str:
    """The form that "auto" stands for: stock where the architecture has it, else compact."""
    return next(name for name, reason in supernet.subnet_forms(supernet.config, arch).items() if reason is None)
