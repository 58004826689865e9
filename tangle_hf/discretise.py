"""Exact discretisation: the most likely architectures within budgets, found by dynamic programming and not by repair.

For fixed choices of the whole net, costs and log-probabilities add up over *decisions*: per-layer dimensions of one layer
that no cost multiplies with each other. After each decision the best `k` partial architectures of every attained cost are
kept, in whole numbers, so that nothing better can have been dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .budgets import Budget
from .cost_table import decisions, exact, outside
from .space import Architecture, SearchSpace


@dataclass(frozen=True)
class Candidate:
    """An architecture within the budgets.

    Args:
        arch: The architecture.
        log_probability: Sum of its rows' log-shares; rows of layers that it lacks count with their largest one.
        costs: Its cost for each budget.
    """

    arch: Architecture
    log_probability: float
    costs: dict[str, int]


def discretise(
    supernet: PreTrainedModel,
    mixture: Mapping[str, Tensor],
    budgets: Sequence[Budget] = (),
    *,
    count: int = 1,
    band: float | None = None,
    standard_only: bool = False,
) -> list[Candidate]:
    """The most likely architectures among all that keep to every budget::

        argmax over arch with cost_b(arch) <= limit_b of
            sum over rows of layers < depth of log share[choice] + sum over rows of layers >= depth of max log share

    The second sum makes shallow nets no more likely than deep ones for having fewer decisions.

    Args:
        supernet: Says which architectures there are, what they cost, and which have the stock form.
        mixture: Dimension -> shares (rows, K), e.g. `ArchParameters.probabilities`. A share of zero counts as 2e-308.
        budgets: Limits, all of which hold; none: the most likely architectures of the space.
        count: How many architectures to return at most.
        band: Prefer architectures that use at least this share of one of the budgets; others only if there are none.
        standard_only: Only architectures that have the stock form.

    Returns:
        At least one candidate, most likely first.

    Raises:
        ValueError: No architecture keeps to the budgets; names the smallest possible cost.
    """
    space = supernet.space
    if count < 1:
        raise ValueError(f"count={count} must be at least 1")
    if band is not None and not 0 <= band <= 1:
        raise ValueError(f"band={band} must be a share of the budget, between 0 and 1")
    smallest = torch.finfo(torch.float64).tiny
    log_shares = {n: rows.detach().cpu().double().clamp_min(smallest).log().numpy() for n, rows in mixture.items()}
    limits = np.array([budget.limit for budget in budgets], dtype=np.int64)
    lower = None if band is None or not budgets else np.array([band * budget.limit for budget in budgets])
    if standard_only:
        found, least = _equal_layers(supernet, log_shares, budgets, limits, lower)
    else:
        found, least = _all(space, log_shares, budgets, limits, lower, count)
    if not found:
        raise ValueError(_infeasible(budgets, least, standard_only))
    inside = [entry for entry in found if entry[0]]
    found = sorted(inside or found, key=lambda entry: -entry[1])[:count]
    costs = ({budget.cost: exact(budget.table, arch) for budget in budgets} for *_, arch in found)
    return [Candidate(arch, score, cost) for (_, score, arch), cost in zip(found, costs, strict=True)]


# What both ways of searching return: (in the band, log-probability, architecture) of those within the limits, among which
# the best `count` in and out of the band are, and the smallest possible value of each cost.
Found = tuple[list[tuple[bool, float, Architecture]], np.ndarray]


def _equal_layers(supernet, log_shares, budgets, limits, lower) -> Found:
    """A stock class has one value of each size, so only architectures with equal layers can be stock."""
    space, found, least = supernet.space, [], np.full(len(budgets), np.iinfo(np.int64).max)
    for values in product(*space.choices.values()):
        arch = space.architecture(**dict(zip(space.choices, values, strict=True)))
        if supernet.subnet_forms(supernet.config, arch)["stock"] is None:
            costs = np.array([exact(budget.table, arch) for budget in budgets], dtype=np.int64)
            least = np.minimum(least, costs)
            if (costs <= limits).all():
                found.append((_in_band(costs[None], lower)[0], _log_probability(space, log_shares, arch), arch))
    return found, least


def _all(space: SearchSpace, log_shares, budgets, limits, lower, count) -> Found:
    depths = space.choices[space.depth_name] if space.depth_name else (space.max_depth,)
    shared = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
    best = {layer: sum(log_shares[n][layer].max() for n in space.per_layer) for layer in range(space.max_depth)}
    found, least = [], np.full(len(budgets), np.iinfo(np.int64).max)
    tables = [budget.table for budget in budgets]
    for chosen in product(*(range(len(space.choices[name])) for name in shared)):
        index = dict(zip(shared, chosen, strict=True))
        base = np.array([outside(table, index) for table in tables], dtype=np.int64)
        layers = [decisions(space, tables, index, layer) for layer in range(space.max_depth)]
        cheapest = np.array([sum(costs.min(0) for _, costs in decided) for decided in layers])
        cheapest = cheapest.reshape(len(layers), len(tables))
        least = np.minimum(least, base + cheapest[: depths[0]].sum(0))
        states = _States(base, sum(log_shares[name][0, k] for name, k in index.items()))
        for layer, decided in enumerate(layers):
            rest = cheapest[layer + 1 : depths[0]].sum(0)  # what the layers cost that every architecture has
            for options, costs in decided:
                scores = np.array([sum(log_shares[n][row, k] for (n, row), k in option) for option in options], float)
                states.extend(options, costs, scores, limits - rest, count)
            if layer + 1 not in depths:
                continue
            choice = depths.index(layer + 1)
            tail = sum(best[dead] for dead in range(layer + 1, space.max_depth))
            tail += log_shares[space.depth_name][0, choice] if space.depth_name else 0.0
            inside = _in_band(states.costs, lower)
            for group in (inside, ~inside):
                for state in states.best(group, count):
                    values = {name: space.choices[name][k] for name, k in index.items()}
                    values |= {space.depth_name: layer + 1} if space.depth_name else {}
                    per_layer = {name: [None] * (layer + 1) for name in space.per_layer}
                    for (name, row), k in states.history(state):
                        per_layer[name][row] = space.choices[name][k]
                    arch = space.architecture(**values, **per_layer)
                    found.append((bool(inside[state]), float(states.scores[state] + tail), arch))
    return found, least


class _States:
    """The best partial architectures of every cost, and how each of them came about."""

    def __init__(self, costs: np.ndarray, score: float):
        self.costs, self.scores = costs[None], np.array([score], dtype=float)
        self.steps: list[tuple[list, np.ndarray, np.ndarray]] = []

    def extend(self, options: list, costs: np.ndarray, scores: np.ndarray, limits: np.ndarray, count: int) -> None:
        """Every state with every option of a decision; keeps the best `count` of each cost within the limits."""
        all_costs = (self.costs[:, None] + costs[None]).reshape(len(self.costs) * len(options), len(limits))
        all_scores = (self.scores[:, None] + scores[None]).reshape(-1)
        kept = np.flatnonzero((all_costs <= limits).all(1))
        kept = kept[np.lexsort((-all_scores[kept], *all_costs[kept].T))]  # by cost, the best first
        number = np.arange(len(kept))
        starts = np.ones(len(kept), dtype=bool)
        starts[1:] = (all_costs[kept[1:]] != all_costs[kept[:-1]]).any(1)
        kept = kept[number - np.maximum.accumulate(np.where(starts, number, 0)) < count]
        self.steps.append((options, *np.divmod(kept, len(options))))
        self.costs, self.scores = all_costs[kept], all_scores[kept]

    def best(self, mask: np.ndarray, count: int) -> np.ndarray:
        """Indices of the best states among those of a mask."""
        chosen = np.flatnonzero(mask)
        return chosen[np.argsort(-self.scores[chosen], kind="stable")[:count]]

    def history(self, state: int):
        """((dimension, layer), choice) of every decision that led to a state."""
        for options, parents, picks in reversed(self.steps):
            yield from options[picks[state]]
            state = parents[state]


def _log_probability(space: SearchSpace, log_shares, arch: Architecture) -> float:
    total = 0.0
    for name, choices in space.choices.items():
        values = getattr(arch, name) if name in space.per_layer else (getattr(arch, name),)
        total += sum(log_shares[name][row, choices.index(value)] for row, value in enumerate(values))
        total += log_shares[name][len(values) :].max(-1).sum()
    return float(total)


def _in_band(costs: np.ndarray, lower: np.ndarray | None) -> np.ndarray:
    return np.ones(len(costs), dtype=bool) if lower is None else (costs >= lower).any(1)


def _infeasible(budgets: Sequence[Budget], least: np.ndarray, standard_only: bool) -> str:
    kind = "architecture with the stock form" if standard_only else "architecture"
    if (least == np.iinfo(np.int64).max).any() or not budgets:
        return f"no {kind} exists in this space; leave standard_only out"
    missed = [
        f"max_{budget.cost} = {budget.limit:,} is below the smallest possible, {cost:,}"
        for budget, cost in zip(budgets, least.tolist(), strict=True)
        if cost > budget.limit
    ]
    if missed:
        return f"no {kind} keeps to the budget: {'; '.join(missed)}. Raise it, or add smaller choices to the space"
    each = ", ".join(
        f"max_{b.cost} = {b.limit:,} (smallest {c:,})" for b, c in zip(budgets, least.tolist(), strict=True)
    )
    return f"no {kind} keeps to all budgets at once, though to each alone: {each}. Raise one of them"
