"""The plain network of an architecture of cells, and which architecture the shares of a DARTS cell stand for."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from ...space import Architecture
from ..spaces import config_of_subnet
from .configuration_elastic_cells import ElasticCellsConfig
from .configuration_tangle_cells import TangleCellsConfig
from .genotypes import cell_of, check_operations, edge_name, notation, parse
from .modeling_tangle_cells import TangleCellsForImageClassification


def subnet_skeleton(
    config: ElasticCellsConfig, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], TangleCellsConfig]:
    """Class and config of an architecture, with the skeleton that it was searched in.

    Raises:
        ValueError: An operation of the architecture was pruned.
    """
    for kind, edges in config.operations.items():
        for number, (operation, left) in enumerate(zip(getattr(arch, kind), edges, strict=True)):
            if operation not in left and operation != "none":
                raise ValueError(
                    f"{kind}: {operation} was pruned from edge {number} ({edge_name(config.wiring, number)}); {left} are left"
                )
    common = config_of_subnet(config, "normal", "reduce", "genotype", "entangled", "kept", "kept_inputs")
    operations = {kind: list(getattr(arch, kind)) for kind in config.wiring.kinds}
    return TangleCellsForImageClassification, TangleCellsConfig(**{**common, **operations, "drop_path_rate": 0.0})


def genotype_of(name: str, arch: Architecture) -> str:
    """An architecture in the notation of its space.

    Args:
        name: A key of `CELLS`, e.g. "darts".
        arch: The architecture.

    Raises:
        ValueError: The architecture has other cells, edges or operations, or a node of DARTS has not exactly two edges that are
            not `none`, which its notation cannot express.
    """
    return notation(name, operations_of(name, arch))


def operations_of(name: str, arch: Architecture) -> dict[str, tuple[str, ...]]:
    """Kind of cell -> the operation of each edge, of an architecture.

    Args:
        name: A key of `CELLS`.
        arch: The architecture.

    Raises:
        ValueError: It has other kinds of cells, other operations, or other edges.
    """
    values = arch.to_dict()
    listed = {kind: value if isinstance(value, list) else [value] for kind, value in values.items()}
    return check_operations(name, listed)


def architecture_of(name: str, genotype: str) -> Architecture:
    """The architecture of a notation.

    Args:
        name: A key of `CELLS`.
        genotype: The cells in the notation of the space: `|op~0|+|...|` or `Genotype(normal=[...], ...)`.

    Raises:
        ValueError: The text does not parse, or names an unknown operation or edge; the message says where.
    """
    return Architecture(parse(name, genotype))


def discretise_edges(
    name: str, choices: Mapping[str, Sequence[str]], shares: Mapping[str, Tensor], kept_inputs: int = 2
) -> Architecture:
    """The discretisation of DARTS (arXiv:1806.09055, section 2.4).

    An edge is as strong as the largest share of its operations, `none` left out. Each node keeps its strongest edges, each
    with that operation; the other edges become `none`.

    Args:
        name: A key of `CELLS`.
        choices: Kind of cell -> operations, `none` among them.
        shares: Kind of cell -> shares (edges, operations).
        kept_inputs: Edges that a node keeps.

    Returns:
        An architecture with `none` on the edges that were dropped.

    Raises:
        ValueError: The choices have no `none`, or nothing else.
    """
    cell, values = cell_of(name), {}
    for kind in cell.kinds:
        names = list(choices[kind])
        if "none" not in names or len(names) < 2:
            raise ValueError(f"{kind} has the choices {names}; edges can be dropped only where none is one of several")
        others = [k for k, operation in enumerate(names) if operation != "none"]
        strength, best = shares[kind][:, others].max(1)
        values[kind] = ["none"] * len(cell.edges)
        for target in range(cell.inputs, cell.inputs + cell.nodes):
            into = [number for number, edge in enumerate(cell.edges) if edge[1] == target]
            strongest = sorted(into, key=lambda number, strength=strength: -strength[number].item())[:kept_inputs]
            for number in strongest:
                values[kind][number] = names[others[best[number]]]
    return Architecture(values)
