"""Exact discretisation: the most likely architectures within budgets, found by dynamic programming and not by repair.

For fixed choices of the whole net, costs and log-probabilities add up over *decisions*: per-layer dimensions of one layer
that no cost multiplies with each other, and the depth of a stage. After each decision the best `k` partial architectures
of every attained cost are kept, in whole numbers, so that nothing better can have been dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .budgets import Budget
from .cost_table import exact
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
            sum over rows of its layers of log share[choice] + sum over rows of layers that it lacks of max log share

    The second sum makes shallow nets no more likely than deep ones for having fewer decisions.

    Args:
        supernet: Says which architectures there are, what they cost, and which have the stock form.
        mixture: Dimension -> shares (rows, K), e.g. `ArchParameters.probabilities`. A share of zero counts as 2e-308.
        budgets: Limits, all of which hold; none: the most likely architectures of the space.
        count: How many architectures to return at most.
        band: Prefer architectures that use at least this share of one of the budgets or, if there are none, of the largest
            cost within it.
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
    log_shares = _logarithms(mixture)
    limits = np.array([budget.limit for budget in budgets], dtype=np.int64)
    lower = None if band is None or not budgets else np.array([band * budget.limit for budget in budgets])
    if standard_only:
        search = partial(_equal_layers, supernet, log_shares, budgets, limits)
    else:
        search = partial(_all, space, log_shares, budgets, limits, count)
    found, least, most = search(lower)
    if not found:
        raise ValueError(_infeasible(budgets, least, standard_only))
    if not any(inside for inside, *_ in found):
        found, *_ = search(band * most)
    found = sorted((entry for entry in found if entry[0]), key=lambda entry: -entry[1])[:count]
    costs = ({budget.cost: exact(budget.table, arch) for budget in budgets} for *_, arch in found)
    return [Candidate(arch, score, cost) for (_, score, arch), cost in zip(found, costs, strict=True)]


# What both ways of searching return: (in the band, log-probability, architecture) of those within the limits, among which
# the best `count` in and out of the band are, the smallest possible value of each cost, and the largest within the limits.
Found = tuple[list[tuple[bool, float, Architecture]], np.ndarray, np.ndarray]


def _equal_layers(supernet, log_shares, budgets, limits, lower) -> Found:
    """A stock class has one value of each size, so only architectures with equal layers can be stock."""
    space, found = supernet.space, []
    least, most = np.full(len(budgets), np.iinfo(np.int64).max), np.zeros(len(budgets), dtype=np.int64)
    for values in product(*space.choices.values()):
        arch = space.architecture(**dict(zip(space.choices, values, strict=True)))
        if supernet.subnet_forms(supernet.config, arch)["stock"] is None:
            costs = np.array([exact(budget.table, arch) for budget in budgets], dtype=np.int64)
            least = np.minimum(least, costs)
            if (costs <= limits).all():
                most = np.maximum(most, costs)
                found.append((_in_band(costs[None], lower)[0], _log_probability(space, log_shares, arch), arch))
    return found, least, most


def _all(space: SearchSpace, log_shares, budgets, limits, count, lower) -> Found:
    shared = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
    found = []
    least, most = np.full(len(budgets), np.iinfo(np.int64).max), np.zeros(len(budgets), dtype=np.int64)
    for chosen in product(*(range(len(space.choices[name])) for name in shared)):
        index = dict(zip(shared, chosen, strict=True))
        layers = (
            _decisions(space, log_shares, budgets, index, layer) for layer in range(space.stages * space.max_depth)
        )
        stages = [list(stage) for stage in zip(*[layers] * space.max_depth, strict=True)]
        cheapest = np.array([_least(stage[: space.depths[0]], len(budgets)) for stage in stages])
        outside = np.array([_outside(budget, index) for budget in budgets], dtype=np.int64)
        least = np.minimum(least, outside + cheapest.sum(0))
        scores = np.array([sum(log_shares[name][0, k] for name, k in index.items())], dtype=float)
        states = _States(outside[None], scores, [((name, 0), k) for name, k in index.items()])
        for stage, decisions in enumerate(stages):
            states = _stage(space, log_shares, states, stage, decisions, limits - cheapest[stage + 1 :].sum(0), count)
        most = np.maximum(most, states.costs.max(0, initial=0))
        inside = _in_band(states.costs, lower)
        for group in (inside, ~inside):
            for state in states.best(group, count):
                arch = _architecture(space, states.history(state))
                found.append((bool(inside[state]), float(states.scores[state]), arch))
    return found, least, most


def _stage(space: SearchSpace, log_shares, states: "_States", stage: int, layers, limits, count) -> "_States":
    """The states behind a stage of any depth, from those in front of it."""
    rows = range(stage * space.max_depth, (stage + 1) * space.max_depth)
    names, ends = space.per_layer - {space.depth_name}, []
    for number, decisions in enumerate(layers, 1):
        rest = _least(layers[number : space.depths[0]], len(limits))  # of the layers that every architecture has
        for decision in decisions:
            states = _extended([(states, *decision)], limits - rest, count)
        if space.depth_name and number in space.depths:
            choice = space.depths.index(number)
            tail = sum(log_shares[name][row].max() for name in names for row in rows[number:])
            score = np.array([log_shares[space.depth_name][stage, choice] + tail])
            ends.append((states, [[((space.depth_name, stage), choice)]], np.zeros((1, len(limits)), int), score))
    return _extended(ends, limits, count) if ends else states


class _States:
    """The best partial architectures of every cost, and how each of them came about.

    Args:
        costs: (states, budgets).
        scores: (states,).
        start: ((dimension, row), choice) that all of them have, if they extend no others.
        origins: What the states extend: others and their options; and for each state which of these, which state of it,
            and which option.
    """

    def __init__(self, costs: np.ndarray, scores: np.ndarray, start: Sequence = (), origins: tuple | None = None):
        self.costs, self.scores, self.start, self.origins = costs, scores, start, origins

    def best(self, mask: np.ndarray, count: int) -> np.ndarray:
        """Indices of the best states among those of a mask."""
        chosen = np.flatnonzero(mask)
        return chosen[np.argsort(-self.scores[chosen], kind="stable")[:count]]

    def history(self, state: int):
        """((dimension, row), choice) of every decision that led to a state."""
        states = self
        while states.origins:
            sources, which, parents, picks = states.origins
            source, options = sources[which[state]]
            yield from options[picks[state]]
            states, state = source, parents[state]
        yield from states.start


def _extended(branches: Sequence[tuple], limits: np.ndarray, count: int) -> _States:
    """The states of all branches, each with every option of a decision; the best `count` of each cost within the limits.

    Args:
        branches: (states, options, their costs (options, budgets), their scores).
        limits: Of what is kept.
        count: How many of the same cost are kept.
    """
    sizes = [len(states.costs) * len(options) for states, options, *_ in branches]
    costs = np.concatenate(
        [(states.costs[:, None] + added).reshape(size, len(limits)) for (states, _, added, _), size in
         zip(branches, sizes, strict=True)]
    )  # fmt: skip
    scores = np.concatenate([(states.scores[:, None] + added).reshape(-1) for states, _, _, added in branches])
    kept = np.flatnonzero((costs <= limits).all(1))
    kept = kept[np.lexsort((-scores[kept], *costs[kept].T))]  # by cost, the best first
    number = np.arange(len(kept))
    starts = np.ones(len(kept), dtype=bool)
    starts[1:] = (costs[kept[1:]] != costs[kept[:-1]]).any(1)
    kept = kept[number - np.maximum.accumulate(np.where(starts, number, 0)) < count]
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, kept, side="right")
    options = np.array([len(options) for _, options, *_ in branches])
    parents, picks = np.divmod(kept - (ends - sizes)[which], options[which])
    sources = [(states, options) for states, options, *_ in branches]
    return _States(costs[kept], scores[kept], origins=(sources, which, parents, picks))


def _least(layers: Sequence[Sequence[tuple]], budgets: int) -> np.ndarray:
    """What some layers cost at least, for each budget."""
    return sum((costs.min(0) for decisions in layers for _, costs, _ in decisions), np.zeros(budgets, dtype=np.int64))


def _architecture(space: SearchSpace, history) -> Architecture:
    values = {name: [None] * space.rows(name) for name in space.choices}
    for (name, row), k in history:
        values[name][row] = space.choices[name][k]
    return space.architecture(**{name: v if name in space.per_layer else v[0] for name, v in values.items()})


def _outside(budget: Budget, index: Mapping[str, int]) -> int:
    """The cost outside the layers for choices of the whole net."""
    terms = (term for term in budget.table.terms if term.layers == (None,))
    return sum(term.values[(0, *(index[name] for name in term.dimensions))].item() for term in terms)


def _decisions(space: SearchSpace, log_shares, budgets, index: Mapping[str, int], layer: int) -> list[tuple]:
    """The decisions of one layer: options as ((dimension, layer), choice) lists, their costs (options, budgets), scores."""
    terms = []  # (budget, per-layer dimensions, cost of their choices)
    for number, budget in enumerate(budgets):
        for term in budget.table.terms:
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
    decisions = []
    for number, group in enumerate(groups):
        order = [name for name in space.choices if name in group]
        options, costs, scores = [], [], []
        for chosen in product(*(range(len(space.choices[name])) for name in order)):
            picked = dict(zip(order, chosen, strict=True))
            cost = np.zeros(len(budgets), dtype=np.int64)
            for which, names, values in terms:
                if group.issuperset(names) and (names or number == 0):  # what no choice changes belongs to the first
                    cost[which] += values[tuple(picked[name] for name in names)]
            options.append([((name, layer), k) for name, k in picked.items()])
            costs.append(cost)
            scores.append(sum(log_shares[name][layer, k] for name, k in picked.items()))
        decisions.append((options, np.array(costs), np.array(scores, dtype=float)))
    return decisions


def log_probability(space: SearchSpace, mixture: Mapping[str, Tensor], arch: Architecture) -> float:
    """What `discretise` maximises, for one architecture under a mixture."""
    return _log_probability(space, _logarithms(mixture), arch)


def _logarithms(mixture: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    smallest = torch.finfo(torch.float64).tiny
    return {n: rows.detach().cpu().double().clamp_min(smallest).log().numpy() for n, rows in mixture.items()}


def _log_probability(space: SearchSpace, log_shares, arch: Architecture) -> float:
    total = 0.0
    for name, choices in space.choices.items():
        values = getattr(arch, name) if name in space.per_layer else (getattr(arch, name),)
        for row, shares in enumerate(log_shares[name]):
            value = values[row] if row < len(values) else None
            total += shares.max() if value is None else shares[choices.index(value)]
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
