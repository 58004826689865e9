"""A space as sequences of decisions whose costs and log-shares add up, and what the decisions ahead can still add.

There is a *plan* for each combination of choices of the whole net's dimensions. Its decisions are those of its layers, one
after the other. Behind each layer that may be the last of its stage, one more decision says whether the stage ends there; the
layers behind the end of a stage have no decisions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ..cost.tables import CostTable, decisions, outside
from ..space import Architecture, SearchSpace


Option = list[tuple[tuple[str, int], int]]  # ((dimension, row), choice)


class Decision(NamedTuple):
    """One decision of a plan.

    options: What can be chosen.
    costs: Cost of each option, int64 of shape (options, costs).
    scores: Score of each option, (options,).
    ends: Whether an option ends the stage, (options,).
    first: Whether a stage begins with it.
    """

    options: list[Option]
    costs: np.ndarray
    scores: np.ndarray
    ends: np.ndarray
    first: bool


class Plan(NamedTuple):
    """The decisions that are left when the whole net's dimensions are chosen.

    chosen: Those dimensions.
    costs: What these choices cost in every architecture of the plan, int64 of shape (costs,).
    score: Their score, which every architecture of the plan has.
    decisions: In order.
    """

    chosen: Option
    costs: np.ndarray
    score: float
    decisions: list[Decision]


def plans(
    space: SearchSpace,
    tables: Sequence[CostTable],
    log_shares: Mapping[str, np.ndarray],
    of_missing: Callable = np.max,
) -> list[Plan]:
    """All plans of a space.

    Args:
        space: The space.
        tables: The costs.
        log_shares: Dimension -> (rows, K), which are the scores.
        of_missing: Log-shares of a row (K,) -> what the row scores in an architecture without its layer.
    """
    whole = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
    found = []
    for chosen in product(*(range(len(space.choices[name])) for name in whole)):
        index = dict(zip(whole, chosen, strict=True))
        start = [((name, 0), k) for name, k in index.items()]
        costs = np.array([outside(table, index) for table in tables], dtype=np.int64)
        layers = [
            _layer(space, tables, log_shares, of_missing, index, n) for n in range(space.stages * space.max_depth)
        ]
        found.append(
            Plan(start, costs, float(_scores(log_shares, [start])[0]), [d for layer in layers for d in layer])
        )
    return found


def _layer(space: SearchSpace, tables, log_shares, of_missing, index: Mapping[str, int], layer: int) -> list[Decision]:
    stage, number = divmod(layer, space.max_depth)
    found = [
        Decision(options, costs.reshape(len(options), len(tables)), _scores(log_shares, options),
                 np.zeros(len(options), dtype=bool), number == 0 and part == 0)
        for part, (options, costs) in enumerate(decisions(space, tables, index, layer))
    ]  # fmt: skip
    if space.depth_name and number + 1 in space.depths:
        end = [((space.depth_name, stage), space.depths.index(number + 1))]
        missing = [
            of_missing(log_shares[name][row])
            for name in space.per_layer - {space.depth_name}
            for row in range(layer + 1, (stage + 1) * space.max_depth)
        ]
        options = [end, []] if number + 1 < space.max_depth else [end]
        scores = np.array([_scores(log_shares, [end])[0] + sum(missing), 0.0][: len(options)])
        nothing = np.zeros((len(options), len(tables)), dtype=np.int64)
        found.append(Decision(options, nothing, scores, np.array([True, False][: len(options)]), False))
    return found


def _scores(log_shares, options: Sequence[Option]) -> np.ndarray:
    return np.array([sum(log_shares[name][row, k] for (name, row), k in option) for option in options], dtype=float)


def ahead(
    plan: Plan, values: Callable[[Decision], np.ndarray], best: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What the decisions from each one to the end add up to, if the best option is taken in all of them::

        ahead[i] = best over options of i of (values_i[option] + ahead[i + 1])

    Args:
        plan: Whose decisions.
        values: Decision -> (options, n).
        best: (options, n) -> (n,), e.g. `max` over options, or the logarithm of the sum of exponentials.

    Returns:
        (decisions + 1, 2, n): [:, 0] inside a stage, [:, 1] behind the stage's end, in front of the next one.
    """
    size = values(plan.decisions[0]).shape[1] if plan.decisions else 0
    found = np.zeros(
        (len(plan.decisions) + 1, 2, size), dtype=values(plan.decisions[0]).dtype if plan.decisions else float
    )
    for number, decision in reversed(list(enumerate(plan.decisions))):
        found[number, 0] = best(values(decision) + found[number + 1, decision.ends.astype(int)])
        found[number, 1] = found[number, 0] if decision.first else found[number + 1, 1]
    return found


def lowest_prices(
    bound: Callable[[np.ndarray], np.ndarray], no_upper: np.ndarray, no_lower: np.ndarray, widest: float
) -> np.ndarray:
    """Minimises a convex function of prices, by a grid around the best point so far that becomes finer.

    The result need not be the exact minimum: every price gives a valid bound, only the best ones a tight one.

    Args:
        bound: Prices (n, costs) -> values of the function, (n,).
        no_upper: Whether the upper end of a cost always holds, so that its price is not positive, (costs,).
        no_lower: Whether the lower end of a cost always holds, so that its price is not negative, (costs,).
        widest: Half the width of the first grid.
    """
    size = len(no_upper)
    if not size:
        return np.zeros(0)
    points = 9 if size == 1 else 7 if size == 2 else 5
    grid = np.array(list(product(np.linspace(-1, 1, points), repeat=size)))
    centre, width = np.zeros(size), widest
    while width > 1e-9 * widest and width > 1e-7 * max(1e-3, np.abs(centre).max()):
        prices = centre + width * grid
        prices = np.where(no_upper, np.minimum(prices, 0), np.where(no_lower, np.maximum(prices, 0), prices))
        prices = np.where(no_upper & no_lower, 0, prices)
        centre = prices[np.nanargmin(bound(prices))]
        width *= 0.4 if size == 1 else 0.55
    return centre


def architecture(space: SearchSpace, chosen: Iterable[tuple[tuple[str, int], int]]) -> Architecture:
    """The architecture of some choices; rows of layers that it lacks may be left out."""
    values = {name: [None] * space.rows(name) for name in space.choices}
    for (name, row), k in chosen:
        values[name][row] = space.choices[name][k]
    return space.architecture(**{name: v if name in space.per_layer else v[0] for name, v in values.items()})


def scored_by_cost(plan: Plan, number: int, sign: int = 1) -> Plan:
    """A plan scored by one of its costs times `sign`; options scored minus infinity, which are never taken, keep that score."""
    changed = [
        d._replace(scores=np.where(np.isfinite(d.scores), sign * d.costs[:, number], -np.inf)) for d in plan.decisions
    ]
    score = float(sign * plan.costs[number]) if np.isfinite(plan.score) else -np.inf
    return plan._replace(score=score, decisions=changed)
