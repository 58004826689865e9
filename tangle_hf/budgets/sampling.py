"""Architectures drawn at random among those within budgets, exactly and however few there are.

Drawing until one fits takes for ever under a tight budget, and repairing one that does not fit changes the distribution.
Here costs add up over decisions (`cost.tables.decisions`), so the mass of a cost c after decision n is a sum over its options::

    mass_n(c) = sum over options o of decision n of share(o) mass_(n-1)(c - cost(o))

It is added up forwards. Then a final cost is drawn, and from it an architecture backwards: option o of decision n is taken in
proportion to share(o) mass_(n-1)(c - cost(o)). Where there are too many costs for that, `TiltedSampler` draws from the same
distribution.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate, product

import numpy as np
from torch import Tensor

from ..cost.tables import CostTable, decisions, greatest, outside
from ..space import Architecture, SearchSpace
from .best_within import Box, best_within
from .limits import Budget
from .plans import architecture, plans, scored_by_cost
from .tilted_sampling import TiltedSampler


MOST_SUMS = 20_000  # different costs behind a decision that are added up


class ConstrainedSampler:
    """Independent choices, given that the architecture keeps to the budgets::

        P(arch) ~ w(cost) * [cost_b(arch) <= limit_b for all b] * prod over its rows of share[choice]

    Depths and dimensions of the whole net are rows, too; rows of layers that an architecture lacks do not count. Under
    even shares and without budgets this is uniform path sampling (SPOS, arXiv:1904.00420, section 3.2).

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        budgets: Limits, all of which hold.
        lower: Least costs, one for each budget, of which at least one must be reached.
        strata: (cost, number of strata) draws the stratum first, evenly among those that are not empty: strata cut the
            range of that cost into equal parts. None: w = 1.

    Raises:
        ValueError: No architecture with a share above zero keeps to the budgets, or hardly any.
    """

    def __init__(
        self,
        space: SearchSpace,
        mixture: Mapping[str, Tensor],
        budgets: Sequence[Budget] = (),
        lower: Sequence[float] | None = None,
        strata: tuple[CostTable, int] | None = None,
    ):
        self.space = space
        shares = {name: rows.detach().cpu().double().numpy() for name, rows in mixture.items()}
        tables = [budget.table for budget in budgets] + ([strata[0]] if strata else [])
        limits = np.array([greatest(table) for table in tables], dtype=np.int64)
        limits[: len(budgets)] = np.minimum(limits[: len(budgets)], [budget.limit for budget in budgets])
        lower = None if lower is None or not budgets else np.ceil(lower).astype(np.int64)
        count = strata[1] if strata else 1
        self._tilted: list[TiltedSampler] = []
        try:
            self._add_up(shares, tables, limits, lower, count)
        except _TooMany:
            self._tilted = _by_rejection(space, shares, tables, limits, lower, count)
            found = bool(self._tilted)
        else:
            found = bool(self._states)
        if not found:
            limit = ", ".join(f"max_{budget.cost} = {budget.text(budget.limit)}" for budget in budgets)
            raise ValueError(f"no architecture that these shares can give keeps to {limit}; raise the budget")

    def _add_up(self, shares, tables, limits, lower, count) -> None:
        space = self.space
        whole = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
        starts = [_start(space, shares, tables, dict(zip(whole, chosen, strict=True)))
                  for chosen in product(*(range(len(space.choices[name])) for name in whole))]  # fmt: skip
        self._end = _merged([_through_layers(space, shares, tables, limits, *start) for start in starts], limits)
        costs, masses = self._end.costs, self._end.masses
        if lower is not None:
            masses = masses * (costs[:, : len(lower)] >= lower).any(1)
        if count > 1 and masses.sum() > 0:
            masses = _stratified(costs[:, -1], masses, count)
        self._states = np.flatnonzero(masses).tolist()
        self._cumulative = list(accumulate(masses[self._states].tolist()))

    def sample(self, rng: random.Random) -> Architecture:
        """Draws one architecture."""
        if self._tilted:
            return architecture(self.space, rng.choice(self._tilted).sample(rng))
        chosen = []
        sums, state = self._end, rng.choices(self._states, cum_weights=self._cumulative)[0]
        while sums is not None:
            sums, state, option = sums.undone(state, rng)
            chosen += option
        return architecture(self.space, chosen)


def sample_independently(
    space: SearchSpace, shares: Mapping[str, Sequence[Sequence[float]]], rng: random.Random
) -> Architecture:
    """Draws every choice independently by its shares, without budgets.

    Args:
        space: The search space.
        shares: Dimension -> rows of shares, as lists.
        rng: Source of randomness.
    """
    values = {name: [rng.choices(choices, row)[0] for row in shares[name]] for name, choices in space.choices.items()}
    return space.architecture(**{name: v if name in space.per_layer else v[0] for name, v in values.items()})


class _TooMany(Exception):
    """More than `MOST_SUMS` costs."""


class _Sums:
    """The costs that partial architectures can have after a decision (the states), and the probability of each.

    Args:
        costs: Cost of every state, (states, tables), all different.
        masses: Probability of every state, (states,).
        branches: Ways to get here, for going back: (sums before, or None at the start; options; their costs (options, tables);
            their probabilities). Any of them may have led to a state.
    """

    def __init__(self, costs: np.ndarray, masses: np.ndarray, branches: Sequence[tuple]):
        self.costs, self.masses, self.branches = costs, masses, branches
        self._index: dict[tuple[int, ...], int] | None = None

    def state(self, cost: list[int]) -> int | None:
        """The number of the state that has this cost; None if none has it."""
        if self._index is None:
            self._index = {tuple(cost): number for number, cost in enumerate(self.costs.tolist())}
        return self._index.get(tuple(cost))

    def undone(self, state: int, rng: random.Random) -> tuple["_Sums | None", int, list]:
        """Draws what led to a state: the sums before, which of their states, and the option."""
        origins, weights = [], []
        for before, options, added, probabilities in self.branches:
            for option, cost, p in zip(options, (self.costs[state] - added).tolist(), probabilities, strict=True):
                if before is None:
                    if not any(cost):
                        origins.append((None, 0, option))
                        weights.append(p)
                elif (parent := before.state(cost)) is not None:
                    origins.append((before, parent, option))
                    weights.append(before.masses[parent] * p)
        return rng.choices(origins, weights)[0]


def _start(space: SearchSpace, shares, tables, index: Mapping[str, int]) -> tuple[_Sums, Mapping[str, int]]:
    """The choices of the whole net but the depth."""
    costs = np.array([[outside(table, index) for table in tables]], dtype=np.int64)
    mass = np.array([np.prod([shares[name][0, k] for name, k in index.items()])])
    return _Sums(costs, mass, [(None, [[((name, 0), k) for name, k in index.items()]], costs, mass)]), index


def _through_layers(space: SearchSpace, shares, tables, limits, sums: _Sums, index: Mapping[str, int]) -> _Sums:
    """Adds up the layers of every stage, and its depths."""
    nothing = np.zeros((1, len(tables)), dtype=np.int64)
    for stage in range(space.stages):
        ends = []
        for number in range(1, space.max_depth + 1):
            for options, costs in decisions(space, tables, index, stage * space.max_depth + number - 1):
                products = [np.prod([shares[n][row, k] for (n, row), k in option]) for option in options]
                sums = _added([(sums, options, costs, np.array(products))], limits)
            if space.depth_name and number in space.depths:
                choice = space.depths.index(number)
                share = shares[space.depth_name][stage, choice]
                ends.append((sums, [[((space.depth_name, stage), choice)]], nothing, np.array([share])))
        sums = _added(ends, limits) if ends else sums
    return sums


def _merged(ends: Sequence[_Sums], limits: np.ndarray) -> _Sums:
    nothing = np.zeros((1, len(limits)), dtype=np.int64)
    return _added([(sums, [[]], nothing, np.ones(1)) for sums in ends], limits)


def _added(branches: Sequence[tuple], limits: np.ndarray) -> _Sums:
    """The costs within the limits that any branch attains, and the sum of their probabilities."""
    costs, masses = [np.zeros((0, len(limits)), dtype=np.int64)], [np.zeros(0)]
    for before, options, added, probabilities in branches:
        costs.append((before.costs[:, None] + added).reshape(len(before.costs) * len(options), len(limits)))
        masses.append((before.masses[:, None] * probabilities).reshape(-1))
    costs, masses = np.concatenate(costs), np.concatenate(masses)
    kept = (costs <= limits).all(1) & (masses > 0)
    costs, masses = costs[kept], masses[kept]
    if not len(limits):  # without costs all are alike
        return _Sums(costs[:1], masses.sum(keepdims=True)[: len(costs)], branches)
    order = np.lexsort(costs.T)
    costs = costs[order]
    first = np.ones(len(costs), dtype=bool)
    first[1:] = (costs[1:] != costs[:-1]).any(1)
    if first.sum() > MOST_SUMS:
        raise _TooMany
    return _Sums(costs[first], np.bincount(np.cumsum(first) - 1, masses[order], int(first.sum())), branches)


def _stratified(costs: np.ndarray, masses: np.ndarray, count: int) -> np.ndarray:
    possible = costs[masses > 0]
    low, high = possible.min(), possible.max()
    strata = np.minimum((costs - low) * count // max(1, high - low), count - 1).clip(min=0)
    total = np.bincount(strata, masses, count)
    return np.divide(masses, total[strata], out=np.zeros_like(masses), where=total[strata] > 0)


def _by_rejection(space: SearchSpace, shares, tables, limits, lower, count) -> list[TiltedSampler]:
    """A sampler by rejection for each stratum that is not empty; strata are equal parts of the range of the last cost."""
    with np.errstate(divide="ignore"):
        logs = {name: np.log(rows) for name, rows in shares.items()}
    every, nothing = plans(space, tables, logs, of_missing=lambda row: 0.0), np.zeros_like(limits)
    starts = [nothing]
    if lower is not None:
        starts = [np.where(np.arange(len(limits)) == number, lower[number], 0) for number in range(len(lower))]
    boxes = [[Box(start, limits) for start in starts]]
    if count > 1:
        least, most = (
            best_within([scored_by_cost(plan, -1, sign) for plan in every], boxes[0], 1) for sign in (-1, 1)
        )
        if not most:
            return []
        low, high = least[0].costs[-1], most[0].costs[-1]
        span = max(1, high - low)
        cuts = [low - -span * number // count for number in range(count)] + [high + 1]
        last = np.arange(len(limits)) == len(limits) - 1
        boxes = [
            [Box(np.where(last, first, start), np.where(last, end - 1, limits)) for start in starts]
            for first, end in zip(cuts, cuts[1:], strict=False)
        ]
    even = [plan._replace(decisions=[d._replace(scores=np.where(np.isfinite(d.scores), 0, -np.inf))
                                     for d in plan.decisions]) for plan in every]  # fmt: skip
    return [TiltedSampler(every, within) for within in boxes if best_within(even, within, 1)]
