"""Architectures drawn at random among those within budgets, exactly and however few there are.

Drawing until one fits takes for ever under a tight budget, and repairing one that does not fit changes the distribution.
Here costs add up over decisions (`cost_table.decisions`), so the probability of every attained cost is a sum over what
was decided before: it is added up forwards, and an architecture is drawn backwards from its cost.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate, product

import numpy as np
from torch import Tensor

from .budgets import Budget
from .cost_table import CostTable, decisions, outside
from .space import Architecture, SearchSpace


class ConstrainedSampler:
    """Independent choices, given that the architecture keeps to the budgets::

        P(arch) ~ w(cost) * [cost_b(arch) <= limit_b for all b] * prod over its rows of share[choice]

    The depth and the dimensions of the whole net are rows, too; rows of layers that an architecture lacks do not count.
    Under even shares and without budgets this is uniform path sampling (SPOS, arXiv:1904.00420, section 3.2).

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        budgets: Limits, all of which hold.
        band: Only architectures that use at least this share of one of the budgets, unless there are none.
        strata: (cost, number of strata) draws the stratum first, evenly among those that are not empty: strata cut the
            range of that cost into equal parts. None: w = 1.

    Attributes:
        band: The same, None if it gave way.

    Raises:
        ValueError: No architecture with a share above zero keeps to the budgets.
    """

    def __init__(
        self,
        space: SearchSpace,
        mixture: Mapping[str, Tensor],
        budgets: Sequence[Budget] = (),
        band: float | None = None,
        strata: tuple[CostTable, int] | None = None,
    ):
        self.space = space
        shares = {name: rows.detach().cpu().double().numpy() for name, rows in mixture.items()}
        tables = [budget.table for budget in budgets] + ([strata[0]] if strata else [])
        limits = np.full(len(tables), np.iinfo(np.int64).max)
        limits[: len(budgets)] = [budget.limit for budget in budgets]
        depths = space.choices[space.depth_name] if space.depth_name else (space.max_depth,)
        whole = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
        self._steps: list[list[_Step]] = []  # for every choice of the whole net
        ends, costs, masses = [], [], []  # (choice of the whole net, number of the step, depth), its states
        for chosen in product(*(range(len(space.choices[name])) for name in whole)):
            index = dict(zip(whole, chosen, strict=True))
            probability = np.prod([shares[name][0, k] for name, k in index.items()])
            if probability == 0:
                continue
            base = np.array([[outside(table, index) for table in tables]], dtype=np.int64)
            steps = [_Step([], base, np.array([probability]))]
            for layer in range(space.max_depth):
                for options, added in decisions(space, tables, index, layer):
                    scores = [np.prod([shares[name][row, k] for (name, row), k in option]) for option in options]
                    steps.append(steps[-1].extended(options, added, np.array(scores), limits))
                if layer + 1 in depths:
                    share = shares[space.depth_name][0, depths.index(layer + 1)] if space.depth_name else 1.0
                    kept = (steps[-1].costs <= limits).all(1)
                    number = np.flatnonzero(kept).tolist()
                    ends += [(len(self._steps), index, len(steps) - 1, layer + 1, state) for state in number]
                    costs.append(steps[-1].costs[kept])
                    masses.append(steps[-1].masses[kept] * share)
            self._steps.append(steps)
        costs, masses = np.concatenate(costs), np.concatenate(masses)
        if not masses.sum() > 0:
            limit = ", ".join(f"max_{budget.cost} = {budget.limit:,}" for budget in budgets)
            raise ValueError(f"no architecture that these shares can give keeps to {limit}; raise the budget")
        if band is not None and budgets:
            inside = masses * (costs[:, : len(budgets)] >= [band * budget.limit for budget in budgets]).any(1)
            masses, band = (inside, band) if inside.any() else (masses, None)
        self.band = band if budgets else None
        if strata:
            masses = _stratified(costs[:, -1], masses, strata[1])
        alive = np.flatnonzero(masses)
        self._ends, self._cumulative = [ends[n] for n in alive], list(accumulate(masses[alive].tolist()))

    def sample(self, rng: random.Random) -> Architecture:
        """Draws one architecture."""
        chosen, index, number, depth, state = rng.choices(self._ends, cum_weights=self._cumulative)[0]
        steps, choices = self._steps[chosen], self.space.choices
        per_layer = {name: [None] * depth for name in self.space.per_layer}
        for step, before in zip(steps[number:0:-1], steps[number - 1 :: -1], strict=False):
            option, state = step.undone(state, before, rng)
            for (name, layer), k in option:
                per_layer[name][layer] = choices[name][k]
        values = {name: choices[name][k] for name, k in index.items()}
        values |= {self.space.depth_name: depth} if self.space.depth_name else {}
        return self.space.architecture(**values, **per_layer)


def sample_independently(
    space: SearchSpace, shares: Mapping[str, Sequence[Sequence[float]]], rng: random.Random
) -> Architecture:
    """The same without budgets.

    Args:
        space: The search space.
        shares: Dimension -> rows of shares, as lists.
        rng: Source of randomness.
    """
    values = {}
    for name, choices in space.choices.items():
        drawn = [rng.choices(choices, row)[0] for row in shares[name]]
        values[name] = drawn if name in space.per_layer else drawn[0]
    return space.architecture(**values)


class _Step:
    """The attained costs after a decision, ascending, and the probability of each."""

    def __init__(self, options: list, costs: np.ndarray, masses: np.ndarray, added=None, scores=None):
        self.options, self.costs, self.masses, self.added, self.scores = options, costs, masses, added, scores
        self._index: dict[tuple[int, ...], int] | None = None

    def extended(self, options: list, added: np.ndarray, scores: np.ndarray, limits: np.ndarray) -> "_Step":
        possible = np.flatnonzero(scores)
        options, added, scores = [options[n] for n in possible], added[possible], scores[possible]
        costs = (self.costs[:, None] + added[None]).reshape(len(self.costs) * len(added), added.shape[1])
        masses = (self.masses[:, None] * scores[None]).reshape(-1)
        kept = (costs <= limits).all(1)
        costs, masses = costs[kept], masses[kept]
        if not costs.shape[1]:  # without costs all are alike
            return _Step(options, costs[:1], masses.sum(keepdims=True), added, scores)
        costs, group = np.unique(costs, axis=0, return_inverse=True)
        return _Step(options, costs, np.bincount(group.reshape(-1), masses, len(costs)), added, scores)

    def undone(self, state: int, before: "_Step", rng: random.Random) -> tuple[list, int]:
        """Draws the option that led to a state, and the state before it."""
        if before._index is None:
            before._index = {tuple(cost): n for n, cost in enumerate(before.costs.tolist())}
        found = [before._index.get(tuple(cost)) for cost in (self.costs[state] - self.added).tolist()]
        weights = [0.0 if n is None else before.masses[n] * p for n, p in zip(found, self.scores, strict=True)]
        picked = rng.choices(range(len(found)), weights)[0]
        return self.options[picked], found[picked]


def _stratified(costs: np.ndarray, masses: np.ndarray, count: int) -> np.ndarray:
    possible = costs[masses > 0]
    low, high = possible.min(), possible.max()
    strata = np.minimum((costs - low) * count // max(1, high - low), count - 1).clip(min=0)
    total = np.bincount(strata, masses, count)
    return np.divide(masses, total[strata], out=np.zeros_like(masses), where=total[strata] > 0)
