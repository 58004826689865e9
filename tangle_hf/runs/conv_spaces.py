"""Supernets of convolutional spaces from command-line arguments: one function per space, listed in `SPACES`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from ..data.trained_tables import Table, read_table
from ..models.cells import ElasticCellsConfig, ElasticCellsForImageClassification
from ..models.cells.genotypes import CELLS, has_notation
from ..models.cells.subnets_cells import architecture_of, genotype_of, operations_of
from ..models.checkpoint_errors import reading_checkpoint
from ..models.conv_macro import ElasticConvMacroConfig, ElasticConvMacroForImageClassification
from ..models.conv_spaces import CONV_MACRO, OFA_MOBILENETV3
from ..models.mobilenetv3 import ElasticMobileNetV3Config, ElasticMobileNetV3ForImageClassification
from ..models.space_settings import ConvSpaceArguments
from ..search import SearchArguments
from ..space import Architecture, PerLayer, SearchSpace


CELLS_ONLY = ("entangled", "operations", "hidden_size", "num_cells", "partial_channels", "kept_inputs")
MOBILENETV3_ONLY = ("expand_ratio", "depths", "width_multiplier", "strides", "kernel_transform")


def conv_macro(
    arguments: ConvSpaceArguments, common: Mapping[str, Any], start_from: str | None = None
) -> PreTrainedModel:
    """Four convolutions, 6,561 architectures."""
    _refuse(arguments, (*MOBILENETV3_ONLY, *CELLS_ONLY))
    options = {} if arguments.dropout is None else {"dropout": arguments.dropout}
    space = _with_choices(CONV_MACRO, arguments, ("kernel_size",))
    return _build(ElasticConvMacroForImageClassification, ElasticConvMacroConfig, start_from, space, common, options)


def mobilenetv3(
    arguments: ConvSpaceArguments, common: Mapping[str, Any], start_from: str | None = None
) -> PreTrainedModel:
    """MobileNetV3 as once-for-all lays it out."""
    _refuse(arguments, CELLS_ONLY)
    options, plain = {}, ConvSpaceArguments()
    for name in ("width_multiplier", "kernel_transform"):  # what is not given is that of the checkpoint
        value = getattr(arguments, name)
        options |= {} if start_from and value == getattr(plain, name) else {name: value}
    options |= {"strides": arguments.strides} if arguments.strides else {}
    options |= {} if arguments.dropout is None else {"classifier_dropout_prob": arguments.dropout}
    space = _with_choices(OFA_MOBILENETV3, arguments, ("kernel_size", "expand_ratio", "depths"))
    return _build(
        ElasticMobileNetV3ForImageClassification, ElasticMobileNetV3Config, start_from, space, common, options
    )


def cells(arguments: ConvSpaceArguments, common: Mapping[str, Any], start_from: str | None = None) -> PreTrainedModel:
    """Networks of cells, one operation per edge."""
    _refuse(arguments, ("kernel_size", *MOBILENETV3_ONLY))
    cell, names = CELLS[arguments.space], ("hidden_size", "num_cells", "kept_inputs", "dropout")
    options = {"cell": arguments.space} | {n: v for n in names if (v := getattr(arguments, n)) is not None}
    if start_from is None:
        options |= {"entangled": arguments.entangled, "partial_channels": arguments.partial_channels}
    elif not arguments.entangled or arguments.partial_channels > 1:
        raise ValueError("entangled and partial_channels are those of --start_from; leave them out")
    space = None
    if arguments.operations:
        row = PerLayer(arguments.operations, rows=len(cell.edges))
        space = SearchSpace(**dict.fromkeys(cell.kinds, row))
    return _build(ElasticCellsForImageClassification, ElasticCellsConfig, start_from, space, common, options)


# Name -> arguments, fields that every config has (classes, image size, channels) -> supernet.
SPACES: dict[str, Callable[[ConvSpaceArguments, Mapping[str, Any], str | None], PreTrainedModel]] = {
    "conv_macro": conv_macro,
    "mobilenetv3": mobilenetv3,
    **dict.fromkeys(CELLS, cells),
}


def build_supernet(
    arguments: ConvSpaceArguments, common: Mapping[str, Any], start_from: str | None = None
) -> PreTrainedModel:
    """The supernet of the chosen space.

    Args:
        arguments: Arguments of the command line.
        common: Fields of the config: `num_channels`, `image_size`, `id2label`, `label2id`.
        start_from: A net of the same space to start from, exported or a supernet; None: new weights.

    Raises:
        ValueError: The space is unknown, or cannot be built with these arguments.
    """
    if arguments.space not in SPACES:
        raise ValueError(f"space={arguments.space!r} is unknown; choose one of {sorted(SPACES)}")
    return SPACES[arguments.space](arguments, common, start_from)


def _build(model: type, config: type, start_from: str | None, space: SearchSpace, common, options) -> Any:
    if start_from is None:
        return model(config(space=space, **common, **options))
    with reading_checkpoint("start_from", start_from):
        loaded = model.from_pretrained(start_from, space=space, **options)
    for name in ("num_channels", "image_size"):
        if (found := getattr(loaded.config, name)) != common[name]:
            raise ValueError(f"{start_from} has {name}={found}, not {common[name]}; use --{name} {found}")
    return loaded


def notation(supernet: PreTrainedModel) -> Callable[[Architecture], str] | None:
    """How the field writes an architecture, of spaces of cells; what it cannot write is its JSON."""
    cell = getattr(supernet.config, "cell", None)
    if cell is None:
        return None

    def write(arch: Architecture) -> str:
        return genotype_of(cell, arch) if has_notation(cell, operations_of(cell, arch)) else arch.to_json()

    return write


def trained(arguments: ConvSpaceArguments) -> Table | None:
    """The table of trained architectures, if there is one.

    Raises:
        ValueError: There is no such file, its name has another ending, or a row cannot be read; names the row.
    """
    if arguments.table is None:
        return None
    parse = partial(architecture_of, arguments.space) if arguments.space in CELLS else None
    return read_table(arguments.table, parse)


def check_settings(supernet: PreTrainedModel, settings: SearchArguments) -> None:
    """Refuses what a search of cells cannot do.

    Raises:
        ValueError: A budget, finalists or a method of two stages in a space whose nodes keep some of their edges; a budget,
            finalists or single paths in a pruned space.
    """
    config = supernet.config
    limits = [*settings.given_limits(), *(["pareto"] if settings.pareto else [])]
    limits += ["finalists"] if settings.finalists and not limits else []
    if limits and (getattr(config, "kept", None) or getattr(config, "kept_inputs", 0)):
        raise ValueError(
            f"{', '.join(limits)}: chosen are the operations of all edges, which works neither in a pruned space nor where "
            f"nodes keep {config.kept_inputs or 'some'} edges only; use --kept_inputs 0, or leave out {', '.join(limits)}"
        )
    if settings.resolved_method.two_stage and getattr(config, "kept_inputs", 0):
        raise ValueError(
            f"method={settings.method} draws operations for all edges, but in this space nodes keep {config.kept_inputs} of "
            "them; use --kept_inputs 0, or a method of one stage"
        )
    if getattr(config, "kept", None) and settings.resolved_method.single_paths:
        raise ValueError(
            f"method={settings.method} draws single operations, which may be pruned ones; use drnas or darts with a pruned "
            "supernet"
        )


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
