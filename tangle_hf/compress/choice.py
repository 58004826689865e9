"""Which of the smaller nets is taken: all are cut from the checkpoint, trained briefly on what it says, and halved."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..analysis import format_table
from ..data.examples import Examples
from ..runs.finalists import rows, train_finalists
from ..search import Limits, SearchArguments
from ..search.choice import budget_use
from ..search.distillation import Teacher
from ..search.search_cost import SearchCost
from ..space import Architecture
from ..subnets.extraction import extract
from .candidates import candidates
from .frozen_search import search_frozen
from .preparation import Prepared


@dataclass(frozen=True)
class Chosen:
    """The net that is taken.

    Args:
        arch: Its architecture.
        budgets: Of each cost its limit and what the net has.
        rows: A row for each net that was tried, the chosen one first.
        tried: Their architectures.
        noise: Standard error of a loss between seeds, None with one.
        costs: What the gradient search and the finalists cost, in training steps of the checkpoint.
    """

    arch: Architecture
    budgets: dict[str, int | float]
    rows: list[dict]
    tried: list[Architecture]
    noise: float | None
    costs: dict[str, float]


def choose_net(
    supernet: PreTrainedModel,
    examples: Examples,
    prepared: Prepared,
    settings: SearchArguments,
    arch_steps: int,
    most_cuts: int,
    accelerator: Accelerator,
    cost: SearchCost,
    teacher: Teacher | None,
) -> Chosen | None:
    """Chooses a net within the budgets of the settings; None if it was interrupted.

    Args:
        supernet: The checkpoint, ordered.
        examples: Its data. Validation examples chose nothing before.
        prepared: What was found out about it.
        settings: Budgets, and how finalists are trained.
        arch_steps: Steps of the gradient search; 0: none.
        most_cuts: How many cuts by hand are tried.
        accelerator: Device and processes; all of them call this.
        cost: Says what a step costs; nothing is added to it.
        teacher: From whose outputs all of them learn.

    Raises:
        ValueError: No net keeps to the budgets.
        FloatingPointError: All trainings diverged.
    """
    limits = Limits.of(settings, supernet, examples.sequence_length)
    data, searched, shares = examples.training(settings.seed), SearchCost.like(cost), None
    if arch_steps:
        shares = search_frozen(supernet, data, settings, arch_steps, accelerator, limits, searched, teacher)
    finalists = candidates(supernet, prepared.rises, shares, settings, limits, most_cuts)
    batch, most = settings.per_device_batch_size, settings.finalist_batches

    def score(model: PreTrainedModel) -> float:
        return examples.score(model, examples.validation, batch, most)["loss"]

    count = min(batch * most, len(examples.validation)) if hasattr(examples.validation, "__len__") else batch * most
    inherited = {finalist.arch: score(extract(supernet, finalist.arch)) for finalist in finalists}
    spent = SearchCost.like(cost)
    for finalist in finalists:
        spent.add_evaluation(finalist.arch, count)
    Path(settings.output_dir).mkdir(parents=True, exist_ok=True)
    options = {"teacher": teacher, "start": supernet}
    decision = train_finalists(supernet, examples, finalists, settings, accelerator, **options)
    if decision is None:
        return None
    arch = decision.ranked[0].arch
    table = []
    for row, finalist in zip(rows(decision, supernet, finalists[0].arch), decision.ranked, strict=True):
        first = {"finalist": finalist.origin, "parameters": row["parameters"], "inherited": inherited[finalist.arch]}
        table.append(first | {name: value for name, value in row.items() if name not in first})
    if accelerator.is_main_process:
        print(f"\nvalidation loss of the nets that were tried, cut from the checkpoint:\n{format_table(table)}")
    costs = {"gradient search": searched.spent, "finalists": decision.cost + spent.spent}
    tried = [finalist.arch for finalist in decision.ranked]
    return Chosen(arch, budget_use(arch, limits.budgets), table, tried, decision.noise, costs)
