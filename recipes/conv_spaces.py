"""Supernets of convolutional spaces from command-line arguments: one function per space, listed in `SPACES`."""

from collections.abc import Callable, Mapping
from typing import Any

from space_arguments import ConvSpaceArguments
from transformers import PreTrainedModel

from tangle_hf import (
    ElasticConvMacroConfig,
    ElasticConvMacroForImageClassification,
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    SearchSpace,
)
from tangle_hf.models.cnn.spaces_cnn import CONV_MACRO, OFA_MOBILENETV3


MOBILENETV3_ONLY = ("expand_ratio", "depths", "width_multiplier", "strides", "kernel_transform")


def conv_macro(arguments: ConvSpaceArguments, common: Mapping[str, Any]) -> PreTrainedModel:
    """Four convolutions, 6,561 architectures."""
    _refuse(arguments, MOBILENETV3_ONLY)
    options = {} if arguments.dropout is None else {"dropout": arguments.dropout}
    space = _with_choices(CONV_MACRO, arguments, ("kernel_size",))
    return _build(ElasticConvMacroForImageClassification, ElasticConvMacroConfig, arguments, space, common, options)


def mobilenetv3(arguments: ConvSpaceArguments, common: Mapping[str, Any]) -> PreTrainedModel:
    """MobileNetV3 as once-for-all lays it out."""
    options = {"width_multiplier": arguments.width_multiplier, "kernel_transform": arguments.kernel_transform}
    options |= {"strides": arguments.strides} if arguments.strides else {}
    options |= {} if arguments.dropout is None else {"classifier_dropout_prob": arguments.dropout}
    space = _with_choices(OFA_MOBILENETV3, arguments, ("kernel_size", "expand_ratio", "depths"))
    return _build(
        ElasticMobileNetV3ForImageClassification, ElasticMobileNetV3Config, arguments, space, common, options
    )


# Name -> arguments, fields that every config has (classes, image size, channels) -> supernet.
SPACES: dict[str, Callable[[ConvSpaceArguments, Mapping[str, Any]], PreTrainedModel]] = {
    "conv_macro": conv_macro,
    "mobilenetv3": mobilenetv3,
}


def build_supernet(arguments: ConvSpaceArguments, common: Mapping[str, Any]) -> PreTrainedModel:
    """The supernet of the chosen space.

    Args:
        arguments: Of the command line.
        common: Fields of the config: `num_channels`, `image_size`, `id2label`, `label2id`.

    Raises:
        ValueError: The space is unknown, or cannot be built with these arguments.
    """
    if arguments.space not in SPACES:
        raise ValueError(f"space={arguments.space!r} is unknown; choose one of {sorted(SPACES)}")
    return SPACES[arguments.space](arguments, common)


def _build(model: type, config: type, arguments: ConvSpaceArguments, space: SearchSpace, common, options) -> Any:
    if arguments.start_from is None:
        return model(config(space=space, **common, **options))
    loaded = model.from_pretrained(arguments.start_from, space=space, **options)
    for name in ("num_channels", "image_size"):
        if (found := getattr(loaded.config, name)) != common[name]:
            raise ValueError(f"{arguments.start_from} has {name}={found}, not {common[name]}; use --{name} {found}")
    return loaded


def _with_choices(space: SearchSpace, arguments: ConvSpaceArguments, names: tuple[str, ...]) -> SearchSpace:
    """The space with other choices of some per-layer dimensions, where they are given."""
    data = space.to_dict()
    for name in names:
        data[name]["per_layer"] = getattr(arguments, name) or data[name]["per_layer"]
    return SearchSpace.from_dict(data)


def _refuse(arguments: ConvSpaceArguments, names: tuple[str, ...]) -> None:
    """Refuses settings that a space does not have."""
    plain = ConvSpaceArguments()
    if given := [name for name in names if getattr(arguments, name) != getattr(plain, name)]:
        raise ValueError(f"{given} have no effect on space={arguments.space}; leave them out")
