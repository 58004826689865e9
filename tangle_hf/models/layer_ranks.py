"""Layers as a ranked set: a net of depth d has the d layers with the lowest ranks, in their order of position.

`layer_ranks[position]` of a supernet's config is the rank of a layer. Spaces, costs, samplers and architectures know ranks
only, as do the rows of a mixture: layer l of an architecture is the layer of rank l. The forward pass and extraction go by
position. Without ranks the rank is the position, and a shallower net is a prefix.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..space import Architecture, SearchSpace


Item = TypeVar("Item")


def check_layer_ranks(ranks: Sequence[int] | None, layers: int) -> list[int] | None:
    """The ranks as a config keeps them: None where they are the positions, so that this is one case.

    Args:
        ranks: The rank of every layer in order of position, or None.
        layers: How many layers there are.

    Raises:
        ValueError: They are no order of the layers.
    """
    if ranks is None:
        return None
    if sorted(ranks) != list(range(layers)):
        raise ValueError(
            f"layer_ranks={list(ranks)} must have every number from 0 to {layers - 1} once, the rank of each of {layers} "
            "layers"
        )
    return None if list(ranks) == sorted(ranks) else list(ranks)


def layer_rank(ranks: Sequence[int] | None, position: int) -> int:
    """The rank of the layer at a position."""
    return position if ranks is None else ranks[position]


def kept_ranks(ranks: Sequence[int] | None, depth: int) -> list[int]:
    """The ranks of the layers that a net of that depth has, in order of position."""
    return list(range(depth)) if ranks is None else [rank for rank in ranks if rank < depth]


def kept_positions(ranks: Sequence[int] | None, depth: int) -> list[int]:
    """The positions of the layers that a net of that depth has, ascending."""
    return list(range(depth)) if ranks is None else [position for position, rank in enumerate(ranks) if rank < depth]


def by_position(arch: Architecture, space: SearchSpace, ranks: Sequence[int] | None) -> Architecture:
    """An architecture with its layers in order of position, as people count them; to look at, not to cut a net by.

    Args:
        arch: Layers in the order of their ranks.
        space: Says which values are per layer.
        ranks: The supernet's.
    """
    if ranks is None:
        return arch
    kept = kept_ranks(ranks, arch.depth)
    moved = {name: [getattr(arch, name)[rank] for rank in kept] for name in space.per_layer}
    return Architecture({**arch.to_dict(), **moved})


def rows_by_position(rows: Sequence[Item], ranks: Sequence[int] | None) -> list[Item | None]:
    """What there is of every layer, in order of position; None for layers that a net does not have.

    Args:
        rows: In the order of their ranks: of all layers, or of those that a net has.
        ranks: The supernet's.
    """
    return list(rows) if ranks is None else [rows[rank] if rank < len(rows) else None for rank in ranks]


def renumbered(
    parameters: Mapping[str, Item], layer_list: str, ranks: Sequence[int] | None, depth: int
) -> dict[str, Item]:
    """Parameters of the layers that a net has, by the names that they have in it, where layers count from 0 again.

    Args:
        parameters: Name in the supernet -> anything.
        layer_list: Name of the list of layers, such as "transformer.h".
        ranks: The supernet's.
        depth: The net's.
    """
    numbers = {str(position): number for number, position in enumerate(kept_positions(ranks, depth))}
    found = {}
    for name, item in parameters.items():
        if name.startswith(f"{layer_list}."):
            position, _, rest = name.removeprefix(f"{layer_list}.").partition(".")
            name = f"{layer_list}.{numbers[position]}.{rest}"
        found[name] = item
    return found
