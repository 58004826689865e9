"""Finalists of a front: at each of its points what the search proposes there, and the cuts by hand."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import fmean

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from moocore import is_nondominated
from transformers import PreTrainedModel

from ..analysis import format_table
from ..budgets.discretisation import Candidate, log_probability
from ..cost.tables import exact
from ..data.examples import Examples
from ..search import SearchArguments
from ..search.distillation import Teacher
from ..search.finalists.candidates import choose_finalists
from ..search.finalists.halving import Decision
from ..search.finalists.settings import STARTS
from ..search.limits import Limits
from ..space import Architecture
from .finalists import missing, print_lines, rows, train_finalists
from .found import FoundFront


def decide_front(
    supernet: PreTrainedModel,
    examples: Examples,
    found: FoundFront | None,
    limits: Limits,
    settings: SearchArguments,
    accelerator: Accelerator,
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
    saved: Callable[[], None] | None = None,
    stopped: Callable[[], None] | None = None,
) -> FoundFront | None:
    """Takes the best of the finalists at each point of a front, and prints a row for each.

    What is taken at a point is not worse than what is taken at a cheaper one: that is within the limit, too, and its loss after
    as many steps with as many seeds is known.

    Args:
        supernet: After the search.
        examples: To train the finalists on, and validation data, by which nothing was chosen so far.
        found: What the search has found; None on the other processes, and on the main one if the search was stopped.
        limits: Those of the search.
        settings: Those of the search, with the finalists' own.
        accelerator: The processes, all of which call this.
        teacher: From whose outputs they learn beside the labels.
        start: The supernet as it was before the search, where they are trained from its slices.
        saved: Called by the main process after each round.
        stopped: Called if it was interrupted.

    Returns:
        The front of the winners; None if the finalists were interrupted or the search was, and on all processes but the main
        one.
    """
    own = None if found is None else [point.table_limit for point in found.points]
    own, proposed = broadcast_object_list([own, None if found is None else found.proposed])
    if own is None:
        return None
    fields = [
        choose_finalists(supernet, nets, settings, limits.at(limit)) for limit, nets in zip(own, proposed, strict=True)
    ]
    decisions, taken = [], []
    for number, finalists in enumerate(fields):
        if accelerator.is_main_process:
            print_lines([f"point {number}: {line}" for line in missing(finalists, settings)])
        later = {finalist.arch for field in fields[number + 1 :] for finalist in field}
        again = replace(settings, resume=settings.resume or number > 0)  # no net is trained twice
        decision = train_finalists(supernet, examples, finalists, again, accelerator, later, teacher, start, saved)
        if decision is None:
            return None if stopped is None else stopped()
        decisions.append(decision)
        loss = decision.losses[0][-1] if decision.steps else None
        new = Taken(decision.ranked[0].arch, decision.ranked[0].origin, number, loss)
        better = bool(taken) and None not in (loss, taken[-1].loss) and taken[-1].loss < loss
        taken.append(taken[-1] if better else new)
    if not accelerator.is_main_process:
        return None
    shutil.rmtree(Path(settings.output_dir) / "finalists", ignore_errors=True)
    table = _rows(decisions, taken, supernet, found)
    print(f"validation loss of the finalists of each point, trained from {STARTS[settings.resolved_finalist_start]}:")
    print(format_table(table))
    if settings.finalist_seeds > 1:
        print(f"of the best, the search's choice and the best cut by hand: means over {settings.finalist_seeds} seeds")
    plain_net = "largest" if supernet.space.ordered else "most expensive"  # a space of operations has no order
    cost = decisions[-1].cost  # of all that the file knows
    print(f"finalists cost: {cost:,.1f} training steps of the {plain_net} net")
    noises = [decision.noise for decision in decisions if decision.noise is not None]
    noise = fmean(found**2 for found in noises) ** 0.5 if noises else None
    facts = {"start": settings.resolved_finalist_start, "noise": noise, "cost": cost, "rows": table}
    return _front_of(taken, found, limits, facts)


@dataclass(frozen=True)
class Taken:
    """What is taken at a point of a front.

    Args:
        arch: The architecture.
        origin: Where it came from, as of a `Finalist`.
        point: The point of which it was a finalist, this one or a cheaper one.
        loss: Its loss after the short training; None where it had no rival.
    """

    arch: Architecture
    origin: str
    point: int
    loss: float | None


def _rows(
    decisions: Sequence[Decision], taken: Sequence[Taken], supernet: PreTrainedModel, found: FoundFront
) -> list[dict]:
    """A row for each finalist of each point, and one for what is taken over from a cheaper point."""
    shown = []
    for number, (decision, best, point) in enumerate(zip(decisions, taken, found.points, strict=True)):
        own = rows(decision, supernet, point.candidate.arch)
        if best.point < number:
            (row,) = (row for row in shown if row["point"] == best.point and row["taken"] == "yes")
            shown.append(row | {"point": number, "finalist": f"taken at point {best.point}"})
        for place, row in enumerate(own):
            won = "yes" if place == 0 and best.point == number else "no"
            shown.append({"point": number, "finalist": row.pop("finalist"), "taken": won, **row})
    columns = dict.fromkeys(name for row in shown for name in row)
    rounds = sorted((name for name in columns if " step" in name), key=lambda name: int(name.split()[0]))
    order = [*(name for name in columns if name not in rounds and name != "architecture"), *rounds, "architecture"]
    return [{name: row.get(name, "-") for name in order} for row in shown]


def _front_of(taken: Sequence[Taken], found: FoundFront, limits: Limits, facts: dict) -> FoundFront:
    """The front of what was taken; of two points that no short training tells apart, as of one net, the first stays."""
    points, columns = [], []
    for number, (point, best) in enumerate(zip(found.points, taken, strict=True)):
        shares = found.front.at(point.table_limit).probabilities(found.front.method)
        budgets = limits.at(point.table_limit).budgets
        costs = {budget.cost: budget.in_units(exact(budget.table, best.arch)) for budget in budgets}
        candidate = Candidate(best.arch, log_probability(found.front.space, shares, best.arch), costs)
        loss = point.loss if best.arch == point.candidate.arch else found.inherited(best.arch)
        points.append(replace(point, cost=costs[budgets[-1].cost], loss=loss, candidate=candidate))
        origin = best.origin if best.point == number else f"{best.origin} of point {best.point}"
        columns.append({"origin": origin, "short loss": best.loss})
    short = [(point.cost, inf if best.loss is None else best.loss) for point, best in zip(points, taken, strict=True)]
    nondominated = is_nondominated(np.array(short, dtype=float)).tolist()
    points = [replace(point, nondominated=first) for point, first in zip(points, nondominated, strict=True)]
    changed = sum(new.candidate.arch != old.candidate.arch for new, old in zip(points, found.points, strict=True))
    results = {"finalists": facts | {"changed": changed}}
    return replace(found, points=points, cost=found.cost + facts["cost"], results=results, columns=columns)
