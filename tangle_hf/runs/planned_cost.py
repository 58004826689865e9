"""What a search will cost, in plain-model steps, as far as its settings say."""

import random

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..search import SearchArguments
from ..search.finalists.candidates import choose_finalists, layers
from ..search.finalists.halving import BEST, horizon_of, round_steps, steps_in_all
from ..search.gradient.front import point_limits
from ..search.limits import Limits
from ..search.loop import step_size
from ..search.search_cost import SearchCost
from ..search.two_stage.proposals import Proposals


DRAWS = 16  # nets within the limits, whose mean cost stands for what the search will propose


def planned_steps(
    supernet: PreTrainedModel, settings: SearchArguments, accelerator: Accelerator, sequence_length: int | None
) -> list[dict[str, str]]:
    """Rows of a dry run: training steps of the largest net that a search of one stage and the finalists are worth.

    Args:
        supernet: What would be searched.
        settings: Those of the search, without latency.
        accelerator: Its processes.
        sequence_length: Tokens of an example of text.
    """
    cost, rows = SearchCost(supernet, step_size(settings, accelerator), sequence_length), []
    unit = "training steps of the " + ("largest net" if supernet.space.ordered else "most expensive net")
    if not settings.resolved_method.two_stage:
        cost.add_weight_step(None, settings.max_steps)
        for _ in range(settings.max_steps - settings.arch_warmup_steps):
            cost.add_arch_step(settings.unrolled)
        rows.append({"what": "the search itself is worth", "value": f"{cost.spent:,.0f} {unit}"})
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
        cost: Says what a step costs.
    """
    draw, rng = Proposals(settings, supernet, limits, use_up=True).random, random.Random(settings.seed)
    likely = sorted((draw(rng) for _ in range(DRAWS)), key=layers)  # a shallow choice has the most rivals
    nets = choose_finalists(supernet, likely, settings, limits)
    before, examples = cost.spent, settings.finalist_batches * cost.batch_size
    steps = round_steps(len(nets), horizon_of(settings))
    trained = steps_in_all(len(nets), steps, settings.finalist_seeds)
    again = min(BEST + 2, len(nets)) * (settings.finalist_seeds - 1)
    scored = steps_in_all(len(nets), range(1, len(steps) + 1), 1) + again
    if not steps:
        return len(nets), 0.0
    for finalist in nets:
        cost.add_weight_step(finalist.arch, trained)
        cost.add_evaluation(finalist.arch, scored * examples)
    return len(nets), (cost.spent - before) / len(nets)
