"""Exact discretisation: the most likely architectures within budgets, searched for (`best_within`) and not repaired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..cost.tables import exact, greatest
from ..space import Architecture, SearchSpace
from .best_within import Box, best_within
from .limits import Budget
from .plans import Plan, ahead, architecture, plans, scored_by_cost


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
    if standard_only:
        found = _equal_layers(supernet, log_shares, budgets, band)[:count]
    else:
        found = _within(space, log_shares, budgets, count, band)
    return _candidates(found, budgets)


def _candidates(found: Sequence[tuple[float, Architecture]], budgets: Sequence[Budget]) -> list[Candidate]:
    costs = ({b.cost: b.in_units(exact(b.table, arch)) for b in budgets} for _, arch in found)
    return [Candidate(arch, score, cost) for (score, arch), cost in zip(found, costs, strict=True)]


def _equal_layers(supernet, log_shares, budgets, band) -> list[tuple[float, Architecture]]:
    """The most likely architectures with the stock form: only those with equal layers can have it, so all of them are tried."""
    space, archs = supernet.space, []
    for values in product(*space.choices.values()):
        arch = space.architecture(**dict(zip(space.choices, values, strict=True)))
        if supernet.subnet_forms(supernet.config, arch)["stock"] is None:
            archs.append(arch)
    costs = np.array([[exact(budget.table, arch) for budget in budgets] for arch in archs], dtype=np.int64)
    limits = _limits(budgets)
    inside = (costs <= limits).all(1) if archs else np.zeros(0, dtype=bool)
    if not inside.any():
        raise ValueError(_infeasible(budgets, costs.min(0) if archs else None, standard_only=True))
    if band is not None and budgets:
        tops = limits if (inside & (costs >= band * limits).any(1)).any() else costs[inside].max(0)
        inside &= (costs >= band * tops).any(1)
    found = [(_log_probability(space, log_shares, archs[number]), archs[number]) for number in np.flatnonzero(inside)]
    return sorted(found, key=lambda entry: -entry[0])


def _within(space: SearchSpace, log_shares, budgets, count, band) -> list[tuple[float, Architecture]]:
    """The most likely architectures within the budgets, whatever their form."""
    every = plans(space, [budget.table for budget in budgets], log_shares)
    boxes = _boxes(budgets, None if band is None else band * _limits(budgets))
    found = best_within(every, boxes, count)
    if not found and band is not None and budgets:
        largest = _largest_within(every, budgets)
        found = [] if largest is None else best_within(every, _boxes(budgets, band * largest), count)
    if not found:
        raise ValueError(_infeasible(budgets, _smallest(every), standard_only=False))
    return [(find.score, architecture(space, find.chosen())) for find in found]


def shape(space: SearchSpace, arch: Architecture) -> tuple:
    """An architecture's choices of the whole net, its depth among them; depths of stages, of which it has several, are not."""
    depth = [space.depth_name] if space.depth_name and space.depth_name not in space.per_layer else []
    return tuple(arch.values(name) for name in (*space.whole_net, *depth))


def likeliest_of_each_shape(
    space: SearchSpace, mixture: Mapping[str, Tensor], budgets: Sequence[Budget], band: float, least: float
) -> list[Candidate]:
    """The most likely architecture of every `shape`.

    Few large layers cannot use a budget up as many small ones can: each shape has a band of its own, below the largest
    cost that it reaches within the budgets.

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        budgets: Limits, all of which hold.
        band: As in `discretise`, of what the shape can use.
        least: Shapes that use less than this share of every budget are left out.

    Returns:
        Most likely first, rows of missing layers counted as in `discretise`.
    """
    limits, log_shares, found = _limits(budgets), _logarithms(mixture), []
    depths = log_shares.get(space.depth_name, np.zeros((0, 0)))
    one_by_one = (
        [depths] if len(depths) != 1 else np.where(np.eye(depths.shape[1], dtype=bool), depths, -np.inf)[:, None]
    )
    for depth in one_by_one:
        for plan in plans(space, [budget.table for budget in budgets], {**log_shares, space.depth_name: depth}):
            largest = _largest_within([plan], budgets)
            if largest is not None and (largest >= least * limits).any():
                best = best_within([plan], _boxes(budgets, band * largest), 1)[0]
                found.append((best.score, architecture(space, best.chosen())))
    return _candidates(sorted(found, key=lambda entry: -entry[0]), budgets)


def least_costs(
    space: SearchSpace, mixture: Mapping[str, Tensor], budgets: Sequence[Budget], band: float
) -> np.ndarray:
    """The lower ends of the band, one cost per budget; an architecture is in the band if it reaches at least one of them.

    A lower end is `band` times the limit. If no architecture that the shares can give reaches any of these, it is `band` times
    the largest cost within the limits instead.

    Args:
        space: The space.
        mixture: Dimension -> shares (rows, K); choices without a share do not count.
        budgets: Limits, all of which hold.
        band: Share of a budget that counts as using it.

    Raises:
        ValueError: No architecture keeps to the budgets.
    """
    every = possible(space, mixture, budgets)
    lower = band * _limits(budgets)
    if best_within(every, _boxes(budgets, lower), 1):
        return lower
    largest = _largest_within(every, budgets)
    if largest is None:
        raise ValueError(_infeasible(budgets, _smallest(every), standard_only=False))
    return band * largest


def possible(space: SearchSpace, mixture: Mapping[str, Tensor], budgets: Sequence[Budget]) -> list[Plan]:
    """Plans in which everything that the shares can give has equal scores, to ask only whether an architecture exists."""
    shares = {name: rows.detach().cpu().numpy() for name, rows in mixture.items()}
    even = {name: np.where(rows > 0, 0.0, -np.inf) for name, rows in shares.items()}
    return plans(space, [budget.table for budget in budgets], even)


def _limits(budgets: Sequence[Budget]) -> np.ndarray:
    return np.array([min(budget.limit, greatest(budget.table)) for budget in budgets], dtype=np.int64)


def _boxes(budgets: Sequence[Budget], lower: np.ndarray | None) -> list[Box]:
    """Within the limits, and one of the costs at least `lower`."""
    limits, nothing = _limits(budgets), np.zeros(len(budgets), dtype=np.int64)
    if lower is None or not budgets:
        return [Box(nothing, limits)]
    starts = np.ceil(lower).astype(np.int64)
    return [
        Box(np.where(np.arange(len(budgets)) == number, starts, nothing), limits) for number in range(len(budgets))
    ]


def _largest_within(every: Sequence[Plan], budgets: Sequence[Budget]) -> np.ndarray | None:
    """The largest value of each cost within all limits; None if nothing is within them."""
    largest = []
    for number in range(len(budgets)):
        found = best_within([scored_by_cost(plan, number) for plan in every], _boxes(budgets, None), 1)
        if not found:
            return None
        largest.append(found[0].costs[number])
    return np.array(largest, dtype=np.int64)


def _smallest(every: Sequence[Plan]) -> np.ndarray:
    """The smallest possible value of each cost."""
    return np.min([plan.costs + ahead(plan, lambda d: d.costs, lambda costs: costs.min(0))[0, 0] for plan in every], 0)


def log_probability(space: SearchSpace, mixture: Mapping[str, Tensor], arch: Architecture) -> float:
    """What `discretise` maximises: an architecture's log-shares, with the largest one for rows of layers that it lacks."""
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


def _infeasible(budgets: Sequence[Budget], least: np.ndarray | None, standard_only: bool) -> str:
    kind = "architecture with the stock form" if standard_only else "architecture"
    if least is None or not budgets:
        return f"no {kind} exists in this space; leave standard_only out"
    missed = [
        f"max_{budget.cost} = {budget.text(budget.limit)} is below the smallest possible, {budget.text(cost)}"
        for budget, cost in zip(budgets, least.tolist(), strict=True)
        if cost > budget.limit
    ]
    if missed:
        return f"no {kind} keeps to the budget: {'; '.join(missed)}. Raise it; the space has nothing smaller"
    each = ", ".join(
        f"max_{b.cost} = {b.text(b.limit)} (smallest {b.text(c)})"
        for b, c in zip(budgets, least.tolist(), strict=True)
    )
    return f"no {kind} keeps to all budgets at once, though to each alone: {each}. Raise one of them"
