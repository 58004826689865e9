"""The best architectures whose costs lie in boxes, exactly: dynamic programming, with bounds where costs are many.

Partial architectures of the same costs are alike but for their scores, so the best `count` of them are enough. Where there are
few different costs, that is all. Where nearly all differ, partial architectures are sorted by a bound on what they can still
reach. The most promising ones are followed first. Those whose bound is no better than what was found are dropped, equal ones
included, so that ties cost nothing. Whatever was set aside is searched later, part by part, which bounds the memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .plans import Plan, ahead, lowest_prices


TIE = 1e-9  # nats that count as no difference between two architectures
WIDTHS = (1 << 12, 1 << 14, 1 << 16)  # partial architectures that are followed at a time; the last is for what is left
WIDEST_PRICE = 1e5  # in nats per whole limit
NEARBY = (0.0, 0.3, 0.7, 0.9, 0.97, 1.03, 1.1, 1.5, 3.0)  # prices around the best one, as multiples


class Box(NamedTuple):
    """Costs from `lower` to `upper`, each int64 of shape (costs,)."""

    lower: np.ndarray
    upper: np.ndarray


class Find(NamedTuple):
    """An architecture: its plan, the option that it takes in each decision (-1 where it has none), score and costs."""

    plan: Plan
    picks: tuple[int, ...]
    score: float
    costs: tuple[int, ...]

    def chosen(self):
        """((dimension, row), choice) of all its choices."""
        yield from self.plan.chosen
        for decision, pick in zip(self.plan.decisions, self.picks, strict=True):
            yield from decision.options[pick] if pick >= 0 else ()


class _States(NamedTuple):
    """Partial architectures. Each extends `parents` by the option `picks`; `ended` is 1 where its stage is complete."""

    costs: np.ndarray
    scores: np.ndarray
    ended: np.ndarray
    parents: np.ndarray
    picks: np.ndarray


def best_within(plans: Sequence[Plan], boxes: Sequence[Box], count: int) -> list[Find]:
    """The best `count` architectures of all plans whose costs lie in one of the boxes, the best first.

    A score of minus infinity is never taken. Scores that differ by less than `TIE` count as equal.

    Args:
        plans: Where to look.
        boxes: What the costs may be; boxes may overlap.
        count: How many to return at most.
    """
    best = _Best(count)
    open_ = []
    for plan in plans:  # first without prices, which is all it takes where costs are few
        for box in boxes:
            search = _Search(plan, box, best)
            if not search.run(WIDTHS[0], drop=True):
                open_.append(search)
    for search in open_:
        search.set_prices()
    open_.sort(key=lambda search: -search.most)
    for width in WIDTHS[:-1]:
        open_ = [search for search in open_ if not search.run(width, drop=True)]
    for search in open_:
        search.run(WIDTHS[-1], drop=False)
    return best.finds


class _Best:
    """The best finds so far."""

    def __init__(self, count: int):
        self.count, self.finds, self._known = count, [], set()

    @property
    def floor(self) -> float:
        """The score that a further find has to exceed."""
        return self.finds[-1].score + TIE if len(self.finds) == self.count else -np.inf

    def add(self, find: Find) -> None:
        key = frozenset(find.chosen())
        if key not in self._known and find.score > self.floor:
            self._known.add(key)
            self.finds = sorted([*self.finds, find], key=lambda other: -other.score)[: self.count]


class _Search:
    """The search of one plan and one box.

    Attributes:
        most: Upper bound of the scores in this plan and box.
    """

    def __init__(self, plan: Plan, box: Box, best: _Best):
        self.plan, self.box, self.best, self.most = plan, box, best, np.inf
        self._price(np.zeros((1, len(box.upper))))
        self._bound_costs()
        self._random = np.random.default_rng(0)

    def _bound_costs(self) -> None:
        self._least = ahead(self.plan, lambda decision: _allowed(decision, 1), lambda costs: costs.min(0))
        self._largest = ahead(self.plan, lambda decision: _allowed(decision, -1), lambda costs: costs.max(0))

    def set_prices(self) -> None:
        """Finds prices of the costs (Lagrange multipliers) under which the bounds are tight.

        An architecture in the box has, for any prices p, of either sign::

            score <= score so far + max over what is ahead of (score - p cost) + p (end of the box - cost so far)

        with the upper end where p is positive and the lower one where it is negative.
        """
        scale = np.maximum(self.box.upper, 1)

        def bound(prices: np.ndarray) -> np.ndarray:
            self._price(prices / scale)
            return self._reach(0, self.plan.costs[None], np.array([self.plan.score]), np.zeros(1, dtype=int))[0]

        no_upper = self.box.upper >= self.plan.costs + self._largest[0, 0]
        no_lower = self.box.lower <= self.plan.costs + self._least[0, 0]
        lowest = lowest_prices(bound, no_upper, no_lower, WIDEST_PRICE)
        nearby = [lowest]
        for factor in NEARBY:
            nearby.append(lowest * factor)
            for cost in range(len(scale)) if len(scale) > 1 else ():
                nearby.append(np.where(np.arange(len(scale)) == cost, lowest * factor, lowest))
        self.plan = _coarse_stages_first(self.plan, np.abs(lowest / scale))
        self._bound_costs()
        self.most = float(bound(np.array(nearby)).min())

    def _price(self, prices: np.ndarray) -> None:
        self._prices = prices
        self._paid = np.where(
            prices > 0, prices * self.box.upper, np.where(prices < 0, prices * self.box.lower, 0)
        ).sum(1)
        self._ahead = ahead(
            self.plan, lambda decision: decision.scores[:, None] - decision.costs @ prices.T, lambda v: v.max(0)
        )

    def _reach(self, number: int, costs, scores, ended, price=slice(None)) -> np.ndarray:
        """Bounds of partial architectures in front of a decision, (states, prices)."""
        return (
            scores[:, None] + self._ahead[number, :, price][ended] + self._paid[price] - costs @ self._prices[price].T
        )

    def run(self, width: int, drop: bool) -> bool:
        """Follows `width` partial architectures at a time.

        Args:
            width: How many.
            drop: Whether the others are left out; else they are searched, too.

        Returns:
            Whether nothing better is left.
        """
        start = _States(self.plan.costs[None], np.array([self.plan.score]), np.zeros(1, dtype=int),
                        np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int16))  # fmt: skip
        self._left = -np.inf
        self._follow(0, start, [], width, drop)
        return self._left <= self.best.floor

    def _follow(self, number: int, states: _States, history: list, width: int, drop: bool) -> None:
        if number == len(self.plan.decisions):
            return self._complete(states, history)
        states, reach = self._extended(number, states)
        parts = [slice(None)]
        if len(states.scores) > width:
            order = np.argsort(-(reach + TIE * self._random.random(len(reach))), kind="stable")
            parts = [order[start : start + width] for start in range(0, len(order), width)]
            if drop:
                self._left = max(self._left, reach[order[width]])
                parts = parts[:1]
        for part in parts:
            kept = states if isinstance(part, slice) else _States(*(values[part] for values in states))
            if len(parts) > 1:  # what was found meanwhile may have settled it
                kept = _States(*(values[reach[part] > self.best.floor] for values in kept))
            if len(kept.scores):
                self._follow(number + 1, kept, [*history, (kept.parents, kept.picks)], width, drop)

    def _extended(self, number: int, states: _States) -> tuple[_States, np.ndarray]:
        """The states behind a decision, the best of each cost, and what they reach at most."""
        decision = self.plan.decisions[number]
        ended = np.zeros_like(states.ended) if decision.first else states.ended
        through, inside = np.flatnonzero(ended), np.flatnonzero(ended == 0)
        options, width = len(decision.options), len(self.box.upper)
        parents = np.concatenate([through, inside.repeat(options)]).astype(np.int32)
        picks = np.concatenate([np.full(len(through), -1), np.tile(np.arange(options), len(inside))]).astype(np.int16)
        costs = (states.costs[inside, None] + decision.costs).reshape(len(inside) * options, width)
        costs = np.concatenate([states.costs[through], costs])
        scores = np.concatenate([states.scores[through], (states.scores[inside, None] + decision.scores).reshape(-1)])
        ended = np.concatenate([ended[through], np.tile(decision.ends.astype(int), len(inside))])
        found = _States(costs, scores, ended, parents, picks)
        possible = (costs + self._least[number + 1][ended] <= self.box.upper).all(1)
        possible &= (costs + self._largest[number + 1][ended] >= self.box.lower).all(1)
        found = _States(*(values[possible] for values in found))
        floor = self.best.floor
        reach = self._reach(number + 1, *found[:3], price=slice(1))[:, 0]
        better = reach > floor
        found, reach = _States(*(values[better] for values in found)), reach[better]
        if len(self._prices) > 1:
            reach = self._reach(number + 1, *found[:3]).min(1)
            better = reach > floor
            found, reach = _States(*(values[better] for values in found)), reach[better]
        kept = _best_of_each_cost(found, self.best.count)
        return _States(*(values[kept] for values in found)), reach[kept]

    def _complete(self, states: _States, history: list) -> None:
        order = np.argsort(-states.scores, kind="stable")[: self.best.count]
        for state in order:
            picks, row = [], state
            for parents, taken in reversed(history):
                picks.append(int(taken[row]))
                row = parents[row]
            find = tuple(reversed(picks)), float(states.scores[state]), tuple(states.costs[state].tolist())
            self.best.add(Find(self.plan, *find))


def _coarse_stages_first(plan: Plan, prices: np.ndarray) -> Plan:
    """Orders stages by falling differences in cost, so that the small ones come last and can fill what is left."""
    stages: list[list] = []
    for decision in plan.decisions:
        stages.append([]) if decision.first else None
        stages[-1].append(decision)
    spans = [sum(np.ptp(decision.costs, axis=0) @ prices for decision in stage) for stage in stages]
    order = np.argsort(spans, kind="stable")[::-1]
    return plan._replace(decisions=[decision for number in order for decision in stages[number]])


def _allowed(decision, sign: int) -> np.ndarray:
    """Costs of a decision's options; options never taken get one that no smallest (sign 1) or largest (sign -1) value is."""
    return np.where(np.isfinite(decision.scores)[:, None], decision.costs, sign * (np.iinfo(np.int64).max >> 8))


def _best_of_each_cost(states: _States, count: int) -> np.ndarray:
    """The numbers of the states to keep: the best `count` of every cost."""
    columns = [states.ended, *states.costs.T]
    if not len(states.scores):
        return np.zeros(0, dtype=int)
    key, size = np.zeros(len(states.scores), dtype=np.int64), 1
    for column in columns:
        column = column - column.min()
        span = int(column.max()) + 1
        if size * span >= 1 << 62:  # no longer one number: number the combinations so far
            key = np.unique(key, return_inverse=True)[1]
            size = int(key.max()) + 1
        key, size = key * span + column, size * span
    order = np.lexsort((-states.scores, key))
    key, number = key[order], np.arange(len(order))
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = key[1:] != key[:-1]
    return order[number - np.maximum.accumulate(np.where(starts, number, 0)) < count]
