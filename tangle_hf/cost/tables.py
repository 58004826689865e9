"""Costs as tables over choices: what an architecture pays for each combination of choices, in the layers that it has.

Costs add up over parameters or matrix products, each of which sits in one layer and depends on a few dimensions. Entries
of the same layer and dimensions are one array of integers, so that an expectation is a handful of sums over small arrays,
and a discretisation reads what every layer's choices cost.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..axes import ParameterAxes
from ..space import Architecture, Choice, SearchSpace


Entry = tuple[ParameterAxes, Callable[[Mapping[str, Choice]], int]]


@dataclass(frozen=True)
class Term:
    """The cost of all entries that depend on the same dimensions.

    Args:
        dimensions: Their names, n of them.
        layers: The layers that have such entries; (None,) outside the layers.
        values: Cost of every combination of choices in each of these layers, int64 of shape (layers, K_1, ..., K_n).
    """

    dimensions: tuple[str, ...]
    layers: tuple[int, ...] | tuple[None]
    values: Tensor


@dataclass(frozen=True)
class CostTable:
    """A cost on a space: `cost(arch) = sum over terms and layers that arch has of values[layer, choices of that layer]`."""

    space: SearchSpace
    terms: tuple[Term, ...]


def tabulate(space: SearchSpace, entries: Iterable[Entry]) -> CostTable:
    """Evaluates a cost for all choices.

    Args:
        space: The search space.
        entries: (what a cost depends on and its layer, values of those dimensions -> whole number), as in
            `config.matrix_products`.

    Raises:
        ValueError: An entry depends on the depth other than by its layer, or on per-layer choices outside the layers.
    """
    sums: dict[tuple[tuple[str, ...], int | None], Tensor] = {}
    for entry, work in entries:
        names = entry.dimensions
        if space.depth_name in names or (entry.layer is None and space.per_layer & set(names)):
            raise ValueError(f"a cost outside the layers must depend on choices of the whole net only, got {names}")
        combinations = product(*(space.choices[name] for name in names))
        values = torch.tensor([work(dict(zip(names, combination, strict=True))) for combination in combinations])
        values = values.view([len(space.choices[name]) for name in names])
        sums[names, entry.layer] = sums.get((names, entry.layer), 0) + values
    terms: dict[tuple, dict] = {}
    for (names, layer), values in sums.items():
        terms.setdefault((names, layer is None), {})[layer] = values
    return CostTable(
        space, tuple(Term(names, tuple(rows), torch.stack(list(rows.values()))) for (names, _), rows in terms.items())
    )


def exact(table: CostTable, arch: Architecture) -> int:
    """The cost of one architecture."""
    space, total = table.space, 0
    for term in table.terms:
        rows = [row for row, layer in enumerate(term.layers) if arch.has_layer(layer)]
        index = []
        for name in term.dimensions:
            number, value = space.choices[name].index, getattr(arch, name)
            at_rows = [number(value[term.layers[row]]) for row in rows] if name in space.per_layer else number(value)
            index.append(at_rows)
        total += term.values.numpy()[(rows, *index)].sum().item()
    return total


def of_largest(table: CostTable) -> int:
    """The cost of the largest architecture; where choices are operations, which have no order, of the most expensive."""
    return exact(table, table.space.largest) if table.space.ordered else greatest(table)


def of_smallest(table: CostTable) -> int:
    """The cost of the smallest architecture; where choices are operations, every layer's least."""
    if table.space.ordered:
        return exact(table, table.space.smallest)
    return sum(term.values.reshape(len(term.layers), -1).amin(1).sum().item() for term in table.terms)


def greatest(table: CostTable) -> int:
    """A cost that no architecture exceeds: the sum of every layer's greatest cost."""
    return sum(term.values.reshape(len(term.layers), -1).amax(1).sum().item() for term in table.terms)


def expected(table: CostTable, mixture: Mapping[str, Tensor]) -> Tensor:
    """The expected cost when every row of a mixture draws its choice independently; differentiable in the shares::

        E = sum over terms and layers of P(it exists) * sum over choices of prod_i shares_i[choice_i] * values(choices)

    Args:
        table: The cost.
        mixture: Dimension -> shares (rows, K).

    Returns:
        A scalar of the mixture's type; at a one-hot mixture, the cost of that architecture.
    """
    space, total = table.space, 0
    like = next(iter(mixture.values()))
    for term in table.terms:
        sums = term.values.to(like)
        for name in reversed(term.dimensions):
            shares = mixture[name][list(term.layers)] if name in space.per_layer else mixture[name]
            sums = (sums * shares.view(len(shares), *[1] * (sums.ndim - 2), -1)).sum(-1)
        if term.layers != (None,) and space.depth_name:
            stages, numbers = zip(*(divmod(layer, space.max_depth) for layer in term.layers), strict=True)
            alive = torch.tensor(
                [[depth > number for depth in space.depths] for number in numbers], device=like.device
            )
            sums = sums * (alive * mixture[space.depth_name][list(stages)]).sum(-1)
        total = total + sums.sum()
    return total


def outside(table: CostTable, index: Mapping[str, int]) -> int:
    """The cost outside the layers.

    Args:
        table: The cost.
        index: Choice, by number, of every dimension of the whole net but the depth.
    """
    terms = (term for term in table.terms if term.layers == (None,))
    return sum(term.values[(0, *(index[name] for name in term.dimensions))].item() for term in terms)


# Options as lists of ((dimension, layer), choice), and their costs, int64 of shape (options, tables).
Decision = tuple[list[list[tuple[tuple[str, int], int]]], np.ndarray]


def decisions(space: SearchSpace, tables: Sequence[CostTable], index: Mapping[str, int], layer: int) -> list[Decision]:
    """The decisions of one layer: groups of its per-layer dimensions such that no cost multiplies two groups.

    Args:
        space: The search space.
        tables: The costs.
        index: Choice, by number, of every dimension of the whole net but the depth.
        layer: Which layer.

    Returns:
        For each decision its options and what they cost; the cost of the layer is the sum over its decisions.
    """
    terms = []  # (table, per-layer dimensions, cost of their choices)
    for number, table in enumerate(tables):
        for term in table.terms:
            if layer in term.layers:
                names = [name for name in term.dimensions if name in space.per_layer]
                at = tuple(slice(None) if name in names else index[name] for name in term.dimensions)
                terms.append((number, names, term.values[(term.layers.index(layer), *at)].numpy()))
    per_layer = space.per_layer - {space.depth_name}
    groups = [{name} for name in space.choices if name in per_layer and layer < space.rows(name)] or [set()]
    for _, names, _ in terms:
        together = [group for group in groups if group & set(names)]
        if len(together) > 1:
            groups = [group for group in groups if group not in together] + [set().union(*together)]
    decided = []
    for number, group in enumerate(groups):
        order = [name for name in space.choices if name in group]
        options, costs = [], []
        for chosen in product(*(range(len(space.choices[name])) for name in order)):
            picked = dict(zip(order, chosen, strict=True))
            cost = np.zeros(len(tables), dtype=np.int64)
            for which, names, values in terms:
                if group.issuperset(names) and (names or number == 0):  # what no choice changes belongs to the first
                    cost[which] += values[tuple(picked[name] for name in names)]
            options.append([((name, layer), k) for name, k in picked.items()])
            costs.append(cost)
        decided.append((options, np.array(costs)))
    return decided
