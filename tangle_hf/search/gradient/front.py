"""The front of a search: the best architecture at each of many budgets, which of them no other beats, and the hypervolume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from transformers import PreTrainedModel

from ...budgets.discretisation import Candidate, discretise
from ...budgets.equal_cost import BAND, largest_hand_cuts
from ...cost.tables import decisions, exact
from ...space import Architecture
from ..settings import SearchArguments
from .arch_front import ArchFront


MOST_CUTS = 3  # by hand, at one budget


@dataclass(frozen=True)
class FrontPoint:
    """What was found for one budget.

    Args:
        limit: The limit of the front's cost, in its unit.
        cost: The architecture's own cost, at most the limit.
        loss: The loss that the architecture inherits.
        candidate: The architecture, with all its costs.
        nondominated: Whether no other point has at most its cost and its loss.
        table_limit: The limit as the cost's table counts it.
    """

    limit: float
    cost: float
    loss: float
    candidate: Candidate
    nondominated: bool
    table_limit: int


def trace_front(
    supernet: PreTrainedModel, front: ArchFront, settings: SearchArguments, loss: Callable[[Architecture], float]
) -> list[FrontPoint]:
    """Reads a front off at `pareto_points` limits, evenly from the first anchor to the last.

    At each limit the logits of that limit are discretised exactly, and the best of the `budget_candidates` most likely
    architectures in the band [0.95, 1] is taken.

    Args:
        supernet: After the search.
        front: What `search` returned.
        settings: The settings of the search.
        loss: Loss of an architecture with the supernet's weights, on data of the architecture steps.
    """
    losses: dict[Architecture, float] = {}
    taken: list[tuple[int, float, Candidate]] = []
    for limit in limits_along(front, settings):
        shares, budgets = front.at(limit).probabilities(front.method), front.budgets_at(limit)
        candidates = discretise(
            supernet,
            shares,
            budgets,
            count=settings.budget_candidates,
            band=BAND,
            standard_only=settings.standard_only,
        )
        for candidate in candidates:
            if candidate.arch not in losses:
                losses[candidate.arch] = loss(candidate.arch)
        best = min(candidates, key=lambda candidate: losses[candidate.arch])
        taken.append((limit, budgets[-1].in_units(limit), best))
    pairs = [(c.costs[settings.pareto], losses[c.arch]) for _, _, c in taken]
    best = moocore.is_nondominated(np.array(pairs, dtype=float))
    return [
        FrontPoint(limit, cost, inherited, candidate, bool(first), number)
        for (number, limit, candidate), (cost, inherited), first in zip(taken, pairs, best, strict=True)
    ]


def limits_along(front: ArchFront, settings: SearchArguments) -> list[int]:
    """`pareto_points` limits, evenly from the first anchor to the last, as the front's cost table counts."""
    return point_limits(front.limits[0], front.limits[-1], settings.pareto_points)


def hand_cuts_along(
    front: ArchFront, settings: SearchArguments, loss: Callable[[Architecture], float]
) -> list[tuple[Architecture, float, float]]:
    """What a person would cut by hand at the budgets of a front: (architecture, cost, inherited loss), the cheapest first.

    Of each budget the nets with equal layers of which no dimension can take its next larger choice, at most the three that use
    most of it. They choose nothing: what the front is compared with.

    Args:
        front: What `search` returned.
        settings: The settings of the search.
        loss: Loss of an architecture with the supernet's weights, on the data of the front's points.
    """
    own = front.budgets[0][-1]

    def cost(arch: Architecture) -> float:
        return own.in_units(exact(own.table, arch))

    cuts: set[Architecture] = set()
    for limit in limits_along(front, settings):
        cuts |= set(sorted(largest_hand_cuts(front.space, front.budgets_at(limit)), key=cost)[-MOST_CUTS:])
    return [(arch, cost(arch), loss(arch)) for arch in sorted(cuts, key=lambda arch: (cost(arch), arch.to_json()))]


def reference_net(front: ArchFront) -> Architecture:
    """The net whose loss is the hypervolume's reference: the smallest; where choices are operations the cheapest."""
    space, table = front.space, front.budgets[0][-1].table
    if space.ordered:
        return space.smallest
    rows = {name: [choices[0]] * space.rows(name) for name, choices in space.choices.items()}
    for layer in range(max(map(len, rows.values()))):
        for options, costs in decisions(space, [table], {}, layer):
            for (name, row), number in options[costs[:, 0].argmin()]:
                rows[name][row] = space.choices[name][number]
    return space.from_rows(rows)


def point_limits(first: int, last: int, count: int) -> list[int]:
    """The limits at which a front is read off, evenly from that of the first anchor to that of the last."""
    return np.linspace(first, last, count).round().astype(int).tolist()


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area that is dominated by (cost, loss) points, up to a reference that is worse in both::

        area of the union over points of [cost, reference cost] x [loss, reference loss]

    Zitzler and Thiele, 1998, doi:10.1007/BFb0056872. Points beyond the reference add nothing.

    Args:
        points: Costs, as shares of the largest net, and losses.
        reference: The same for all fronts that are compared.
    """
    return float(moocore.hypervolume(np.array(points, dtype=float), ref=list(reference)))
