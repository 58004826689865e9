"""Which of the smaller nets are tried: the uniform cut, and as many rivals as the allowance is enough for."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..data.examples import Examples
from ..search.distillation import Teacher
from ..search.finalists.candidates import Finalist
from ..search.search_cost import SearchCost
from ..space import Architecture
from ..subnets.extraction import extract
from .batches import calibration_loss
from .candidates import candidates
from .frozen_search import search_frozen
from .plan import Plan, fitting, plan_choice
from .preparation import Prepared
from .scores import projections
from .settings import CompressArguments
from .sizes import Size


@dataclass(frozen=True)
class Tried:
    """What is tried.

    Args:
        finalists: The nets, the uniform cut first.
        inherited: Of each its loss on calibration data as it is cut from the checkpoint.
        left_out: How many more were proposed.
        costs: What the proposals cost, in training steps of the checkpoint.
    """

    finalists: list[Finalist]
    inherited: dict[Architecture, float]
    left_out: int
    costs: dict[str, float]


def nets_to_try(
    supernet: PreTrainedModel,
    examples: Examples,
    prepared: Prepared,
    plan: Plan,
    size: Size,
    arch_steps: int,
    most_cuts: int,
    accelerator: Accelerator,
    cost: SearchCost,
    teacher: Teacher | None,
) -> Tried:
    """The first net, and of all that is proposed beside it the nets that inherit the lowest loss.

    Args:
        supernet: The checkpoint, ordered.
        examples: Its data.
        prepared: What was found out about it.
        plan: How much rivals may cost.
        size: The uniform cut, how many nets are proposed beside it, and what all of them keep to.
        arch_steps: Steps of the gradient search; 0: none.
        most_cuts: How many cuts by hand are proposed.
        accelerator: Device and processes; all of them call this.
        cost: Says what a step costs; nothing is added to it.
        teacher: From whose outputs all of them learn.

    Raises:
        ValueError: A gradient search would have no effect.
    """
    searched, looked, shares = SearchCost.like(cost), SearchCost.like(cost), None
    settings, limits, first = size.search, size.limits, size.first
    proposed = [first]
    if prepared.rises is not None:
        if arch_steps:
            data = examples.training(settings.seed)
            shares = search_frozen(supernet, data, settings, arch_steps, accelerator, limits, searched, teacher)
        proposed = candidates(supernet, prepared.rises, shares, settings, limits, most_cuts)
    elif arch_steps:
        raise ValueError(
            f"arch_steps={arch_steps} would have no effect: {settings.max_steps} steps leave no room for rivals of the uniform "
            "cut; raise --max_steps or --choice_ratio"
        )
    inherited = {}
    for finalist in proposed:
        inherited[finalist.arch] = calibration_loss(extract(supernet, finalist.arch), prepared.batches)
        looked.add_evaluation(finalist.arch, sum(len(batch["labels"]) for batch in prepared.batches))
    rivals = sorted((f for f in proposed if f.arch != first.arch), key=lambda finalist: inherited[finalist.arch])
    step = step_cost(cost, first.arch, teacher)
    count = fitting(len(proposed), settings.max_steps, step, plan.rivals)
    costs = {"gradient search": searched.spent, "looking at proposals": looked.spent}
    return Tried([first, *rivals[: count - 1]], inherited, len(proposed) - count, costs)


def plan_of(
    settings: CompressArguments,
    supernet: PreTrainedModel,
    sizes: Collection[Size],
    cost: SearchCost,
    teacher: Teacher | None,
) -> Plan:
    """How much of all recoveries may go into the choice, and what it is enough for.

    Args:
        settings: The share, and on how many examples things are tried at most.
        supernet: The checkpoint.
        sizes: The nets that are asked for.
        cost: Says what a step costs; nothing is added to it.
        teacher: From whose outputs all of them learn.
    """
    first = [size.first.arch for size in sizes]
    steps = [recovery_cost(cost, arch, teacher, settings) / settings.max_steps for arch in first]
    space = supernet.space
    shallower = any(arch.depth < space.max_depth for arch in first)
    ranked, tried = settings.calibration_examples, settings.sensitivity_examples
    most = (settings.choice_ratio, ranked, tried)
    biases = sum(projection.module.bias is not None for projection in projections(supernet))
    plan = plan_choice(space, cost, max(steps), len(steps), settings.max_steps, *most, shallower, biases)
    return plan if settings.architecture is None else replace(plan, sensitive=0, rivals=0.0)  # nothing is chosen


def step_cost(cost: SearchCost, arch: Architecture, teacher: Teacher | None, steps: int = 1) -> float:
    """What steps of a net's recovery cost, in training steps of the checkpoint."""
    spent = SearchCost.like(cost)
    spent.add_weight_step(arch, steps)
    if teacher is not None:
        spent.add_teacher(steps)
    return spent.spent


def recovery_cost(cost: SearchCost, arch: Architecture, teacher: Teacher | None, settings: CompressArguments) -> float:
    """What the whole recovery of a net costs, with and then without its teacher, in training steps of the checkpoint."""
    alone = settings.max_steps - settings.taught
    return step_cost(cost, arch, teacher, settings.taught) + step_cost(cost, arch, None, alone)
