"""Recovery: the nets that are tried begin it side by side, after each round the worse half ends, and the last one goes on.

All of them follow the schedule of the whole recovery, so that nothing of what the net that is taken has learned is thrown away:
only the steps of the others are the price of choosing.
"""

import copy
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel, TrainingArguments

from ..data.examples import Examples
from ..errors import writing
from ..search.finalists.candidates import Finalist
from ..search.finalists.halving import Decision
from ..search.finalists.known_losses import KnownLosses
from ..search.search_cost import SearchCost
from ..subnets.extraction import extract
from ..training.trainer import last_checkpoint, train
from .choice import recovery_cost, step_cost
from .layerwise import LayerwiseTeacher
from .plan import first_round, rounds
from .preparation import Prepared, cost_of_cut, cut
from .settings import CompressArguments


@dataclass(frozen=True)
class Recovered:
    """What came of it.

    Args:
        model: The net that is left, trained to the end.
        decision: The order of all nets and their losses after each round.
        costs: What the net that is left cost and what the others did, in training steps of the checkpoint.
    """

    model: PreTrainedModel
    decision: Decision
    costs: dict[str, float]


def recover(
    supernet: PreTrainedModel,
    finalists: Sequence[Finalist],
    prepared: Prepared,
    settings: CompressArguments,
    examples: Examples,
    how: TrainingArguments,
    teacher: LayerwiseTeacher | None,
    accelerator: Accelerator,
    cost: SearchCost,
) -> Recovered:
    """Trains nets in rounds, and the best one to the end; the same call goes on where it was stopped.

    Args:
        supernet: The checkpoint, ordered.
        finalists: The nets; one is trained without further ado.
        prepared: What was found out about the checkpoint.
        settings: By how much data nets are compared.
        examples: To train on, and validation data, by which nothing was chosen before.
        how: Of the whole recovery; every net leaves its checkpoints in a folder of its own in this one's.
        teacher: From whose outputs they learn.
        accelerator: Processes, all of which call this and train every net together.
        cost: Says what a step costs; nothing is added to it.

    Raises:
        FloatingPointError: The trainings of all nets diverged.
    """
    folder, losses = Path(how.output_dir), {finalist: [] for finalist in finalists}
    known, show = KnownLosses(folder / "finalists.jsonl", accelerator), accelerator.is_main_process
    if show:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    known.read(resume=True)  # another run's folder was refused
    batch = settings.per_device_batch_size
    count = settings.finalist_batches * cost.batch_size  # however many processes
    looked, others = SearchCost.like(cost), 0.0
    if hasattr(examples.validation, "__len__"):
        count = min(count, len(examples.validation))
    alive, ended, ends = list(finalists), [], rounds(len(finalists), first_round(settings.max_steps))

    def go_on(finalist: Finalist, until: int | None) -> PreTrainedModel:
        own = folder / finalist.arch.id
        found = last_checkpoint(own)  # if there is one, its weights replace those of the net
        model = extract(supernet, finalist.arch) if found else cut(supernet, finalist.arch, prepared, show)
        name = "recovery" if until is None else f"round {ends.index(until) + 1} of {len(ends)}"
        if teacher is not None:
            teacher.follow(supernet.kept_layers(finalist.arch))
        mine = copy.copy(how)
        mine.output_dir = str(own)
        return train(model, examples.training(settings.seed), mine, teacher, until, name, settings.taught)

    for until in ends:
        for finalist in alive:
            key = (finalist.arch, how.seed, until)
            if key not in known.losses:
                try:
                    loss = examples.score(go_on(finalist, until), examples.validation, batch, -(-count // batch))[
                        "loss"
                    ]
                except FloatingPointError:
                    loss = math.inf
                known.add({"arch": finalist.arch.to_dict(), "origin": finalist.origin, "seed": how.seed, "steps": until,
                           "loss": loss if math.isfinite(loss) else None, "cost": 0.0})  # fmt: skip
            losses[finalist].append(known.losses[key])
            looked.add_evaluation(finalist.arch, count)
        alive.sort(key=lambda finalist: losses[finalist][-1])
        if losses[alive[0]][-1] == math.inf:
            raise FloatingPointError("the trainings of all nets diverged; try a smaller --learning_rate")
        alive, worse = alive[: -(-len(alive) // 2)], alive[-(-len(alive) // 2) :]
        ended = worse + ended
        for finalist in worse:
            taught = min(until, settings.taught)
            others += step_cost(cost, finalist.arch, teacher, taught)
            others += step_cost(cost, finalist.arch, None, until - taught)
            if show:
                shutil.rmtree(folder / finalist.arch.id, ignore_errors=True)
        if show:
            best, next_best = losses[alive[0]][-1], losses[worse[0]][-1]
            print(f"after {until} steps: {alive[0].origin} {best:.3f}, best of those that end {next_best:.3f}")
    (last,) = alive
    ranked = [last, *ended]
    shown = [[None if loss == math.inf else loss for loss in losses[finalist]] for finalist in ranked]
    decision = Decision(ranked, shown, 1, ends, None, others + looked.spent)
    costs = {
        "means": sum(cost_of_cut(supernet, finalist.arch, prepared, cost) for finalist in finalists),
        "rivals": others + looked.spent,
        "recovery": recovery_cost(cost, last.arch, teacher, settings),
    }
    return Recovered(go_on(last, None), decision, costs)
