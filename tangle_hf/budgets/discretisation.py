"""Exact discretisation: the most likely architectures within budgets, found by dynamic programming and not by repair.

For fixed choices of the whole net, costs and log-probabilities add up over *decisions*: per-layer dimensions of one layer
that no cost multiplies with each other, and the depth of a stage. After each decision the best `k` partial architectures
of every attained cost are kept, in whole numbers, so that nothing better can have been dropped. Where the costs are many,
a rough search comes first, and what its finds prove to be too bad is dropped early.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..cost.tables import decisions, exact, greatest, outside
from ..space import Architecture, SearchSpace
from .limits import Budget


COARSE = 3000  # different costs, or combinations of costs, that the rough search knows
PRICES = np.geomspace(1e-3, 1e4, 200)  # of a whole budget, in nats


@dataclass(frozen=True)
class Candidate:
    """An architecture within the budgets.

    Args:
        arch: The architecture.
        log_probability: Sum of its rows' log-shares; rows of layers that it lacks count with their largest one.
        costs: Its cost for each budget, latency in milliseconds.
    """

    arch: Architecture
    log_probability: float
    costs: dict[str, int | float]


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
    limits = np.array([min(budget.limit, greatest(budget.table)) for budget in budgets], dtype=np.int64)
    lower = None if band is None or not budgets else band * limits
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
    costs = ({b.cost: b.in_units(exact(b.table, arch)) for b in budgets} for *_, arch in found)
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


class _Plan(NamedTuple):
    """A choice of the whole net's dimensions.

    index: those choices.
    stages: per stage, per layer, its decisions: options, their costs, their scores. Costs of every architecture are in `start`.
    start: the states before the first decision.
    """

    index: dict[str, int]
    stages: list[list[list[tuple]]]
    start: "_States"


def _all(space: SearchSpace, log_shares, budgets, limits, count, lower) -> Found:
    shared = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
    chosen = product(*(range(len(space.choices[name])) for name in shared))
    plans = [_plan(space, log_shares, budgets, dict(zip(shared, ks, strict=True))) for ks in chosen]
    # Rough first: states whose costs are nearly equal count as one. What it finds exists, so that the exact search can drop
    # whatever cannot become better.
    widths = np.maximum(limits // round(COARSE ** (1 / max(1, len(limits)))), 1)
    rough, least, most = _search(space, log_shares, plans, limits, count, lower, widths, -np.inf)
    inside = sorted((score for within, score, _ in rough if within), reverse=True)
    floor = inside[count - 1] if len(inside) >= count else -np.inf
    if (widths == 1).all():
        return rough, least, most
    return _search(space, log_shares, plans, limits, count, lower, np.ones_like(limits), floor)


def _plan(space: SearchSpace, log_shares, budgets, index: dict[str, int]) -> _Plan:
    tables = [budget.table for budget in budgets]

    def scores(options) -> np.ndarray:
        return np.array(
            [sum(log_shares[name][row, k] for (name, row), k in option) for option in options], dtype=float
        )

    layers = (
        [(options, costs, scores(options)) for options, costs in decisions(space, tables, index, layer)]
        for layer in range(space.stages * space.max_depth)
    )
    stages = [list(stage) for stage in zip(*[layers] * space.max_depth, strict=True)]
    start = [((name, 0), k) for name, k in index.items()]
    costs = np.array([[outside(table, index) for table in tables]], dtype=np.int64)
    return _Plan(index, stages, _States(costs, scores([start]), start))


def _search(space: SearchSpace, log_shares, plans: list[_Plan], limits, count, lower, widths, floor) -> Found:
    """The best architectures of all plans.

    Args:
        space: The space.
        log_shares: Dimension -> (rows, K).
        plans: What to search.
        limits: (budgets,).
        count: How many to find in the band and out of it.
        lower: Where the band begins, or None.
        widths: Costs that are equal after a division by these count as equal, (budgets,); ones for an exact search.
        floor: A score that `count` architectures in the band have at least; anything below is not looked for.
    """
    found = []
    least, most = np.full(len(limits), np.iinfo(np.int64).max), np.zeros(len(limits), dtype=np.int64)
    for plan in plans:
        bounds = _Bounds(space, log_shares, plan, limits, lower, floor)
        cheapest = np.array([_least(stage[: space.depths[0]], len(limits)) for stage in plan.stages])
        least = np.minimum(least, plan.start.costs[0] + cheapest.sum(0))
        states = plan.start
        for stage, layers in enumerate(plan.stages):
            rest = limits - cheapest[stage + 1 :].sum(0)
            keep = partial(_extended, count=count, widths=widths)
            states = _stage(space, log_shares, states, stage, layers, rest, keep, bounds)
        most = np.maximum(most, states.costs.max(0, initial=0))
        inside = _in_band(states.costs, lower)
        for group in (inside, ~inside):
            for state in states.best(group, count):
                arch = _architecture(space, states.history(state))
                found.append((bool(inside[state]), float(states.scores[state]), arch))
    return found, least, most


def _stage(
    space: SearchSpace, log_shares, states: "_States", stage: int, layers, limits, extend, bounds: "_Bounds"
) -> "_States":
    """The states behind a stage of any depth, from those in front of it."""
    ends = []
    for number, decided in enumerate(layers, 1):
        rest = _least(layers[number : space.depths[0]], len(limits))  # of the layers that every architecture has
        for decision in range(len(decided)):
            reach = partial(bounds.reach, stage, number - 1, decision + 1)
            states = extend([(states, *decided[decision])], limits - rest, reach=reach)
        if space.depth_name and number in space.depths:
            options = [[((space.depth_name, stage), space.depths.index(number))]]
            score = np.array([_end(space, log_shares, stage, number)])
            ends.append((states, options, np.zeros((1, len(limits)), dtype=np.int64), score))
    return extend(ends, limits, reach=partial(bounds.reach, stage + 1, 0, 0)) if ends else states


def _end(space: SearchSpace, log_shares, stage: int, depth: int) -> float:
    """Score of ending a stage: the share of its depth, and the largest shares in the layers that it lacks."""
    rows = range(stage * space.max_depth + depth, (stage + 1) * space.max_depth)
    names = space.per_layer - {space.depth_name}
    return log_shares[space.depth_name][stage, space.depths.index(depth)] + sum(
        log_shares[name][row].max() for name in names for row in rows
    )


class _Bounds:
    """What partial architectures can reach at most, by prices of the costs (Lagrange multipliers).

    An architecture within the limits has, for every price p >= 0 of a cost::

        score <= score of its first part + p (limit - cost of its first part) + max over second parts of (score - p cost)

    and the last term is a sum over decisions. A price below zero does the same for the lower end of the band, which one of
    the costs has to reach.

    Args:
        space: The space.
        log_shares: Dimension -> (rows, K).
        plan: Whose parts are bounded.
        limits: (budgets,).
        lower: Where the band begins, or None.
        floor: The score that is to be reached; minus infinity bounds nothing.
    """

    def __init__(self, space: SearchSpace, log_shares, plan: _Plan, limits, lower, floor: float):
        self.floor = floor - 1e-9
        if not np.isfinite(floor):
            return
        self.space, self.log_shares, self.stages = space, log_shares, plan.stages
        ends = [(1.0, budget, limits) for budget in range(len(limits))]
        ends += [] if lower is None else [(-1.0, budget, lower) for budget in range(len(limits))]
        prices = []
        for sign, budget, target in ends:
            grid = np.zeros((len(PRICES), len(limits)))
            grid[:, budget] = sign * PRICES / limits[budget]
            self.prices, self.paid = grid, grid @ target
            self._sum_up()
            best = int(self._reach(0, 0, 0, plan.start.costs, plan.start.scores)[0].argmin())
            near = grid[max(0, best - 2) : best + 3]
            prices.append(np.concatenate([np.zeros((1, len(limits))), near]))
        self.prices = np.concatenate(prices)
        self.paid = np.concatenate([price @ target for price, (*_, target) in zip(prices, ends, strict=True)])
        cuts = np.cumsum([0, *map(len, prices)])
        self.groups = [slice(*pair) for pair in zip(cuts, cuts[1:], strict=False)]
        self._sum_up()

    def _sum_up(self) -> None:
        """`behind[stage]`, of all stages from there on; `within[stage][layer][decision]`, of the rest of a stage."""
        space, self.behind, self.within = self.space, [np.zeros(len(self.prices))], []
        for stage, layers in reversed(list(enumerate(self.stages))):
            rest, sums = None, []
            for number, decided in reversed(list(enumerate(layers, 1))):
                if not space.depth_name:
                    rest = np.zeros(len(self.prices)) if rest is None else rest
                elif number in space.depths:
                    end = _end(space, self.log_shares, stage, number)
                    rest = np.full(len(self.prices), end) if rest is None else np.maximum(rest, end)
                parts = [rest]
                for _, costs, scores in reversed(decided):
                    rest = rest + (scores[:, None] - costs @ self.prices.T).max(0)
                    parts.append(rest)
                sums.append(parts[::-1])
            self.within.append(sums[::-1])
            self.behind.append(self.behind[-1] + rest)
        self.within.reverse()
        self.behind.reverse()

    def _reach(self, stage: int, layer: int, decision: int, costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rest = self.behind[stage]
        if layer or decision:
            rest = self.behind[stage + 1] + self.within[stage][layer][decision]
        return scores[:, None] + rest + self.paid - costs @ self.prices.T

    def reach(self, stage: int, layer: int, decision: int, costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which states, after so many decisions of a layer, may become as good as `floor`."""
        if not np.isfinite(self.floor):
            return np.ones(len(costs), dtype=bool)
        found = self._reach(stage, layer, decision, costs, scores)
        each = np.stack([found[:, group].min(1) for group in self.groups])
        budgets = costs.shape[1]
        most = each[:budgets].min(0)  # every limit holds, and one cost is in its band
        if len(each) > budgets:
            most = np.minimum(most, each[budgets:].max(0))
        return most >= self.floor


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


def _extended(
    branches: Sequence[tuple], limits: np.ndarray, reach: Callable[..., np.ndarray], count: int, widths: np.ndarray
) -> _States:
    """The states of all branches, each with every option of a decision; the best `count` of each cost within the limits.

    Args:
        branches: (states, options, their costs (options, budgets), their scores).
        limits: Of what is kept.
        reach: Costs, scores -> which states may become good enough.
        count: How many of the same cost are kept.
        widths: As in `_search`.
    """
    sizes = [len(states.costs) * len(options) for states, options, *_ in branches]
    costs = np.concatenate(
        [(states.costs[:, None] + added).reshape(size, len(limits)) for (states, _, added, _), size in
         zip(branches, sizes, strict=True)]
    )  # fmt: skip
    scores = np.concatenate([(states.scores[:, None] + added).reshape(-1) for states, _, _, added in branches])
    kept = np.flatnonzero((costs <= limits).all(1))
    kept = kept[reach(costs[kept], scores[kept])]
    groups = costs // widths
    kept = kept[np.lexsort((-scores[kept], *groups[kept].T))]  # by cost, the best first
    number = np.arange(len(kept))
    starts = np.ones(len(kept), dtype=bool)
    starts[1:] = (groups[kept[1:]] != groups[kept[:-1]]).any(1)
    kept = kept[number - np.maximum.accumulate(np.where(starts, number, 0)) < count]
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, kept, side="right")
    options = np.array([len(options) for _, options, *_ in branches])
    parents, picks = np.divmod(kept - (ends - sizes)[which], options[which])
    sources = [(states, options) for states, options, *_ in branches]
    return _States(costs[kept], scores[kept], origins=(sources, which, parents, picks))


def _least(layers: Sequence[Sequence[tuple]], budgets: int) -> np.ndarray:
    """What some layers cost at least, for each budget."""
    return sum((costs.min(0) for decided in layers for _, costs, _ in decided), np.zeros(budgets, dtype=np.int64))


def _architecture(space: SearchSpace, history) -> Architecture:
    values = {name: [None] * space.rows(name) for name in space.choices}
    for (name, row), k in history:
        values[name][row] = space.choices[name][k]
    return space.architecture(**{name: v if name in space.per_layer else v[0] for name, v in values.items()})


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
        f"max_{budget.cost} = {budget.text(budget.limit)} is below the smallest possible, {budget.text(cost)}"
        for budget, cost in zip(budgets, least.tolist(), strict=True)
        if cost > budget.limit
    ]
    if missed:
        return f"no {kind} keeps to the budget: {'; '.join(missed)}. Raise it, or add smaller choices to the space"
    each = ", ".join(
        f"max_{b.cost} = {b.text(b.limit)} (smallest {b.text(c)})"
        for b, c in zip(budgets, least.tolist(), strict=True)
    )
    return f"no {kind} keeps to all budgets at once, though to each alone: {each}. Raise one of them"
