"""The order of units: weights are permuted so that what a smaller architecture keeps, a prefix, is what matters.

MLP units, heads, KV groups and query heads inside a group may be permuted without any change to what a net computes, as long
as all rows and columns of a unit move together. Which ones these are is read off the axis table: the units of a dimension
are the factor of a block that its choices shorten, wherever it occurs in a layer.
"""

import dataclasses
import logging
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..axes import Axis, moved_factor, named_tensors
from ..space import SearchSpace
from .scores import PARTS, Projection, Scores, check_scores, projections, residual_axis


logger = logging.getLogger(__name__)


def ordered_dimensions(supernet: PreTrainedModel) -> tuple[str, ...]:
    """The dimensions of a space whose choices drop whole units of a layer, which therefore can be ordered.

    The residual stream is none of them: one order would have to serve all layers. Without a fixed `head_dim` heads are none, as
    other head counts cut the same units into other heads.
    """
    space, found = supernet.space, projections(supernet)
    residual = residual_axis(supernet.axes).dimensions
    return tuple(
        name
        for name in space.choices
        if name not in residual and any(moved_factor(p.inputs, space, name) is not None for p in found)
    )


@torch.no_grad()
def order_units(supernet: PreTrainedModel, scores: Scores, criterion: str | None = None) -> Scores:
    """Permutes the weights of a supernet in place so that in every layer the units with the highest scores come first.

    The score of a unit is the sum over its channels at the input of the projection behind it. The largest net computes what it
    did, to rounding. Query heads are ordered inside their group. The residual stream keeps its order.

    Args:
        supernet: An `Elastic*` model of a transformer family.
        scores: What `calibrate` gave for these weights.
        criterion: One of `CRITERIA`; None: "fisher" for heads; else the variance where the projection has a bias, which can
            learn what the mean was, and the second moment where it has none.

    Returns:
        The scores in the new order. Those that were given do not fit the weights any more, and are refused.

    Raises:
        ValueError: The scores are not of these weights, the criterion is unknown, or no choice of the space drops units.
    """
    space, found = supernet.space, projections(supernet)
    names = ordered_dimensions(supernet)
    if not names:
        raise ValueError(f"no choice of {space} drops units inside a layer, so there is nothing to order")
    check_scores(scores, found)
    if heads := _regrouped(supernet, names):
        logger.warning(
            "%s keeps its order: without a fixed head_dim its choices cut the same units into other heads", heads
        )
    orders: dict[int, dict[str, Tensor]] = {}
    for projection in found:
        orders.setdefault(projection.layer, {}).update(_unit_orders(projection, space, names, scores, criterion))
    tensors = named_tensors(supernet, supernet.axes)
    for name, entry in supernet.axes.items():
        for axis, description in enumerate(entry.axes if entry.layer is not None else ()):
            index = _axis_order(description, space, orders[entry.layer], tensors[name].shape[axis])
            if index is not None:
                tensors[name].copy_(tensors[name].index_select(axis, index.to(tensors[name].device)))
    return _moved(scores, found, space, orders)


def _regrouped(supernet: PreTrainedModel, ordered: tuple[str, ...]) -> str | None:
    """The dimension whose choices are there but drop no units, if any."""
    space = supernet.space
    inside = {name for entry in supernet.axes.values() if entry.layer is not None for name in entry.dimensions}
    for name in (*space.of_layers, *space.whole_net):
        if len(space.choices[name]) > 1 and name not in inside and name not in ordered:
            return name
    return None


def _unit_orders(
    projection: Projection, space: SearchSpace, names: tuple[str, ...], scores: Scores, criterion: str | None
) -> dict[str, Tensor]:
    """Dimension -> the order of its units, best first: (units,), or (groups, units) inside groups."""
    energy = "second_moment" if projection.module.bias is None else "variance"
    by = criterion or ("fisher" if projection.width > 1 else energy)
    channels = scores.importance(projection.name, by)
    block = projection.inputs.owned({name: space.choices[name][-1] for name in projection.inputs.dimensions})
    channels = channels.view([size for size, _ in block])
    orders = {}
    for name in names:
        factor = moved_factor(projection.inputs, space, name)
        if factor is not None:
            units = channels.flatten(factor + 1).sum(-1) if factor + 1 < channels.ndim else channels
            orders[name] = units.argsort(dim=-1, descending=True, stable=True)
    return orders


def _axis_order(axis: Axis, space: SearchSpace, orders: Mapping[str, Tensor], size: int) -> Tensor | None:
    """Old places of an axis's units in their new order, (size,); None where they stay."""
    factors = {name: moved_factor(axis, space, name) for name in orders}
    inner_first = sorted((name for name in orders if factors[name] is not None), key=factors.get, reverse=True)
    if not inner_first:
        return None
    block = axis.owned({name: space.choices[name][-1] for name in axis.dimensions})
    index = torch.arange(size).view([length for length, _ in block])
    for name in inner_first:
        behind = index.ndim - factors[name] - 1
        order = orders[name].view(*orders[name].shape, *[1] * behind)
        order = order.view(*[1] * (index.ndim - order.ndim), *order.shape)
        index = index.take_along_dim(order, dim=factors[name])
    return index.flatten()


def _moved(
    scores: Scores, found: list[Projection], space: SearchSpace, orders: Mapping[int, Mapping[str, Tensor]]
) -> Scores:
    parts = {part: dict(getattr(scores, part)) for part in PARTS}
    for projection in found:
        size = len(scores.norm[projection.name])
        index = _axis_order(projection.inputs, space, orders[projection.layer], size)
        for values in parts.values() if index is not None else ():
            values[projection.name] = values[projection.name][index]
    return dataclasses.replace(scores, **parts)
