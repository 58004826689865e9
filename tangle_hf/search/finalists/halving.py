"""Finalists trained in rounds: after each, the worse half ends (successive halving, arXiv:1502.07943).

With n nets and a longest training of h steps there are r = min(3, ceil(log2 n)) rounds, which end after h / 2^(r-1), ...,
h / 2 and h steps. Survivors go on from where they were. All nets of a round are at the same point of the same schedule, with
the same data behind them, and are compared by their loss on data by which nothing was chosen before. The best two of the last
round are trained with other seeds, too, and the smaller mean wins.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from transformers import PreTrainedModel

from ...space import Architecture
from ..distillation import Teacher
from ..loop import append_record, keep_records, progress_bar, stop_on_signal
from ..search_cost import SearchCost
from ..settings import SearchArguments
from .candidates import Finalist
from .short_training import ShortTraining


MOST_ROUNDS = 3
Job = tuple[Finalist, int, int]  # whom to train, with which seed, up to which step


@dataclass(frozen=True)
class Decision:
    """What came of the finalists.

    Args:
        ranked: All of them, the winner first: the two that were trained with all seeds, the others of the last round, then
            those that ended before it.
        losses: The losses of each, in that order, after each round that it was in; the last ones of the first two are means
            over seeds.
        steps: Steps at the end of each round.
        noise: Standard error of such a mean, from how a net's losses differ between seeds; None with one seed.
        cost: What it cost, in plain-model steps.
    """

    ranked: list[Finalist]
    losses: list[list[float | None]]
    steps: list[int]
    noise: float | None
    cost: float


@dataclass
class _Known:
    """Losses by (architecture, seed, steps), and what they cost, as `finalists.jsonl` holds them."""

    path: Path
    accelerator: Accelerator
    losses: dict[tuple[Architecture, int, int], float | None] = field(default_factory=dict)
    cost: float = 0.0

    def read(self, resume: bool) -> None:
        """Takes what an interrupted run has left; another run starts anew."""
        main = self.accelerator.is_main_process
        for record in broadcast_object_list([keep_records(self.path, lambda record: resume) if main else None])[0]:
            self._note(record)

    def add(self, record: dict) -> None:
        """Takes a result, and leaves it as a line."""
        self._note(record)
        if self.accelerator.is_main_process:
            append_record(self.path, record)

    def _note(self, record: dict) -> None:
        self.losses[Architecture(record["arch"]), record["seed"], record["steps"]] = record["loss"]
        self.cost += record["cost"]


def round_steps(count: int, horizon: int) -> list[int]:
    """Steps at the end of each round, ascending; none with a single net, which needs no training to win."""
    rounds = min(MOST_ROUNDS, math.ceil(math.log2(count))) if count > 1 else 0
    return sorted({max(1, round(horizon / 2 ** (rounds - 1 - number))) for number in range(rounds)})


def halve(
    supernet: PreTrainedModel,
    finalists: Sequence[Finalist],
    data,
    score: Callable[[PreTrainedModel], float],
    examples: int,
    settings: SearchArguments,
    accelerator: Accelerator,
    cost: SearchCost,
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
    saved: Callable[[], None] | None = None,
) -> Decision | None:
    """Trains finalists and drops the worse half, again and again, and leaves every loss in `finalists.jsonl`.

    Processes share the nets of a round, each of which one process trains by itself. A resumed run trains nothing again that
    the file knows.

    Args:
        supernet: After the search.
        finalists: The nets, the same on every process.
        data: Training examples.
        score: A net -> its loss on data by which nothing was chosen before.
        examples: How many examples that takes.
        settings: Those of the search, with the finalists' own.
        accelerator: Processes, device and precision.
        cost: Says what a step costs; nothing is added to it.
        teacher: From whose outputs they learn beside the labels.
        start: The supernet as it was before the search, for `finalist_start="checkpoint"`.
        saved: Called by the main process after each round.

    Returns:
        The decision; None if it was interrupted.

    Raises:
        ValueError: The weights are sharded over processes (FSDP), so that none can train a net by itself.
        FloatingPointError: All trainings diverged.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise ValueError(
            "finalists are trained by single processes, which needs whole weights; use DDP or one process, or --finalists 0"
        )
    run_dir, horizon = Path(settings.output_dir), max(1, round(settings.finalist_ratio * settings.max_steps))
    training = ShortTraining(supernet, data, settings, accelerator, horizon, run_dir / "finalists", teacher, start)
    known, steps = _Known(run_dir / "finalists.jsonl", accelerator), round_steps(len(finalists), horizon)
    known.read(settings.resume)
    before = dict(zip(steps, [0, *steps], strict=False))  # steps at the end of a round -> at its start
    if not steps:
        return Decision(list(finalists), [[] for _ in finalists], [], None, 0.0)
    alive, ended, losses = list(finalists), [], {finalist: [] for finalist in finalists}
    seeds = range(settings.finalist_seeds)
    bar = progress_bar(accelerator, _steps_in_all(len(finalists), steps, len(seeds)), 0, "finalists")

    def steps_of(job: Job) -> int:
        """Steps since the round before; other seeds than the first begin with the last round."""
        _, seed, until = job
        return until if seed else until - before[until]

    def run(job: Job) -> dict:
        (finalist, seed, until), spent = job, copy(cost)
        spent.spent = 0.0
        try:
            loss = score(training.train(finalist.arch, settings.seed + seed, until))
        except FloatingPointError:
            loss = math.inf
        spent.add_weight_step(finalist.arch, steps_of(job))
        if teacher is not None:
            spent.add_teacher(steps_of(job))
        spent.add_evaluation(finalist.arch, examples)
        record = {"arch": finalist.arch.to_dict(), "origin": finalist.origin, "seed": seed, "steps": until}
        return record | {"loss": loss if math.isfinite(loss) else None, "cost": spent.spent}

    def train(jobs: list[Job]) -> bool:
        """Makes what is not known yet, side by side on all processes; False if the run was asked to stop."""
        world, rank = accelerator.num_processes, accelerator.process_index
        unknown = [job for job in jobs if (job[0].arch, *job[1:]) not in known.losses]
        bar.update(sum(map(steps_of, jobs)) - sum(map(steps_of, unknown)))
        for start in range(0, len(unknown), world):
            for record in gather_object([run(job) for job in unknown[start + rank : start + rank + 1]]):
                known.add(record)
            bar.update(sum(map(steps_of, unknown[start : start + world])))
            if accelerator.check_trigger():
                return False
        return True

    with stop_on_signal(accelerator), bar:
        for number, until in enumerate(steps, 1):
            if not train([(finalist, 0, until) for finalist in alive]):
                return None
            for finalist in alive:
                losses[finalist].append(known.losses[finalist.arch, 0, until])
            alive.sort(key=lambda finalist: _last(losses[finalist]))
            if saved is not None and accelerator.is_main_process:
                saved()
            first = f"{alive[0].origin}, loss {_last(losses[alive[0]]):.3f}"
            bar.set_postfix_str(f"round {number} of {len(steps)}, first: {first}", refresh=False)
            if number < len(steps):
                kept = math.ceil(len(alive) / 2)
                alive, ended = alive[:kept], alive[kept:] + ended
                if accelerator.is_main_process:
                    for finalist in ended:
                        training.forget(finalist.arch)
        best, others = alive[:2], alive[2:]
        if not train([(finalist, seed, steps[-1]) for seed in seeds[1:] for finalist in best]):
            return None
    by_seed = {finalist: [known.losses[finalist.arch, seed, steps[-1]] for seed in seeds] for finalist in best}
    for finalist, found in by_seed.items():
        losses[finalist][-1] = None if None in found else mean(found)
    ranked = sorted(best, key=lambda finalist: _last(losses[finalist])) + others + ended
    if _last(losses[ranked[0]]) == math.inf:
        raise FloatingPointError("the short trainings of all finalists diverged; try a smaller --learning_rate")
    if accelerator.is_main_process:
        for finalist in finalists:
            training.forget(finalist.arch)
        with suppress(OSError):  # it was never made, or holds something else
            training.folder.rmdir()
    return Decision(ranked, [losses[finalist] for finalist in ranked], steps, _noise([*by_seed.values()]), known.cost)


def _last(losses: Sequence[float | None]) -> float:
    return math.inf if not losses or losses[-1] is None else losses[-1]


def _noise(by_net: Sequence[Sequence[float | None]]) -> float | None:
    """Standard error of a mean over seeds: the pooled standard deviation of a net's losses over the root of their number."""
    spreads = [stdev(found) for found in by_net if None not in found and len(found) > 1]
    return math.sqrt(mean(s**2 for s in spreads) / len(by_net[0])) if spreads else None


def _steps_in_all(count: int, steps: Sequence[int], seeds: int) -> int:
    """Steps of all trainings."""
    total, before, last = 0, 0, count
    for until in steps:
        total, last = total + count * (until - before), count
        before, count = until, math.ceil(count / 2)
    return total + min(2, last) * (seeds - 1) * before
