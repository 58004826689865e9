"""What a search will cost, in plain-model steps, as far as its settings say."""

import random
from collections.abc import Sequence

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..samplers import sampler
from ..search import SearchArguments
from ..search.finalists.candidates import HAND_CUT, choose_finalists, layers
from ..search.finalists.halving import BEST, horizon_of, round_steps
from ..search.gradient.bilevel_step import UNROLLED_PASSES
from ..search.gradient.front import point_limits
from ..search.limits import Limits
from ..search.loop import step_size
from ..search.search_cost import SearchCost
from ..search.two_stage.proposals import Proposals
from ..space import Architecture


DRAWS = 16  # nets within the limits, for what the search may propose


def planned_steps(
    supernet: PreTrainedModel, settings: SearchArguments, accelerator: Accelerator, sequence_length: int | None
) -> list[dict[str, str]]:
    """Rows of a dry run: training steps of the largest net that a search of one stage and the finalists are worth.

    A weight step on a single path costs what the path does, at most a step of the largest net.

    Args:
        supernet: What would be searched.
        settings: Those of the search, without latency.
        accelerator: Its processes.
        sequence_length: Tokens of an example of text.
    """
    cost, rows = SearchCost(supernet, step_size(settings, accelerator), sequence_length), []
    unit = "training steps of the " + ("largest net" if supernet.space.ordered else "most expensive net")
    if not settings.resolved_method.two_stage:
        paths, arch_steps = sampler(settings.sampler).hard, settings.max_steps - settings.arch_warmup_steps
        if paths:
            cost.spent += settings.max_steps
        else:
            cost.add_weight_step(None, settings.max_steps)
        for _ in range(arch_steps):
            cost.add_arch_step(settings.unrolled)
        if settings.teacher_share:
            cost.add_teacher(settings.max_steps + arch_steps * (UNROLLED_PASSES if settings.unrolled else 1))
        what = "the search itself is worth" + (", at most" if paths else "")
        rows.append({"what": what, "value": f"{cost.spent:,.0f} {unit}"})
    if settings.proposed_finalists:
        limits, points = Limits.of(settings, supernet, sequence_length), [None]
        if settings.pareto is not None:
            ends = (limits.anchors[0][-1].limit, limits.anchors[-1][-1].limit)
            points = point_limits(*ends, settings.pareto_points)
        fields = [limits if point is None else limits.at(point) for point in points]
        nets, most = zip(*(most_of_finalists(supernet, settings, field, cost) for field in fields), strict=True)
        where = "" if settings.pareto is None else f" at {len(points)} points"
        rows.append({"what": f"{sum(nets)} finalists{where}, at most", "value": f"{sum(most):,.0f} {unit}"})
    return rows


def most_of_finalists(
    supernet: PreTrainedModel, settings: SearchArguments, limits: Limits, cost: SearchCost
) -> tuple[int, float]:
    """How many finalists there are within some limits, and what their training and scoring costs at most.

    Args:
        supernet: What would be searched.
        settings: Those of the search.
        limits: What the finalists keep to.
        cost: Says what a step costs; nothing is added to it.
    """
    draw, rng = Proposals(settings, supernet, limits, use_up=True).random, random.Random(settings.seed)
    likely = sorted((draw(rng) for _ in range(DRAWS)), key=layers)  # a shallow choice has the most rivals
    nets = choose_finalists(supernet, likely, settings, limits)
    steps = round_steps(len(nets), horizon_of(settings))
    if not steps:
        return len(nets), 0.0
    # Cuts by hand are known, the others may be as expensive as the most expensive one that was drawn.
    dearest = max((*likely, *(finalist.arch for finalist in nets)), key=cost.relative)
    by_cost = [finalist.arch if finalist.origin == HAND_CUT else dearest for finalist in nets]
    by_cost.sort(key=cost.relative, reverse=True)
    found, examples, last, alive = SearchCost.like(cost), settings.finalist_batches * cost.batch_size, 0, by_cost

    def train(archs: Sequence[Architecture], count: int) -> None:
        for arch in archs:
            found.add_weight_step(arch, count)
            found.add_evaluation(arch, examples)
            if settings.teacher_share:
                found.add_teacher(count)

    for until in steps:
        train(alive, until - last)
        last, alive = until, by_cost[: BEST + 2]
    for _ in range(settings.finalist_seeds - 1):
        train(alive, last)
    return len(nets), found.spent
