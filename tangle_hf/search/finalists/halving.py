"""Finalists trained in rounds, after which most of them end, as in successive halving (arXiv:1502.07943).

All n nets are trained for h / 2 steps; the two best, the search's choice and the best cut by hand go on to h steps. Two nets
have one round, of h steps. All nets of a round are at the same point of the same schedule, with the same data behind them, and
are compared by their loss on data by which nothing was chosen before.

Seeds matter more than the data that losses are taken on. So the best two, the search's choice and the best cut by hand are
trained with other seeds, too; the lowest mean wins, unless the search's choice is behind it by no more than chance:

    noise^2 = mean over nets of var over seeds / number of seeds
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, mean, stdev

from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from ...space import Architecture
from ..distillation import Teacher
from ..loop import progress_bar, stop_on_signal
from ..search_cost import SearchCost
from ..settings import SearchArguments
from ..sharding import check_whole
from .candidates import HAND_CUT, Finalist
from .known_losses import KnownLosses
from .short_training import ShortTraining


BEST = 2  # nets that go on after a round because of their loss
Job = tuple[Finalist, int, int]  # whom to train, with which seed, up to which step


@dataclass(frozen=True)
class Decision:
    """What came of the finalists.

    Args:
        ranked: All of them, the winner first, then the others that were trained with all seeds, then those that ended last.
        losses: The losses of each, in that order, after each round that it was in; the last ones of the first `seeded` are
            means over seeds.
        seeded: How many were trained with all seeds.
        steps: Steps at the end of each round.
        noise: Standard error of such a mean, from how a net's losses differ between seeds; None with one seed.
        cost: What it cost, in plain-model steps.
    """

    ranked: list[Finalist]
    losses: list[list[float | None]]
    seeded: int
    steps: list[int]
    noise: float | None
    cost: float


def round_steps(count: int, horizon: int) -> list[int]:
    """Steps at the end of each round, ascending; none with a single net, which needs no training to win."""
    return sorted({max(1, round(horizon / 2)), horizon}) if count > 2 else [horizon] * (count > 1)


def horizon_of(settings: SearchArguments) -> int:
    """Steps of the longest training."""
    return max(1, round(settings.finalist_ratio * settings.max_steps))


def survivors(ranked: Sequence[Finalist], choice: Finalist) -> list[Finalist]:
    """Who goes on after a round: the best two, the search's choice and the best cut by hand, in the order of their losses.

    Args:
        ranked: Those that were in the round, the best first.
        choice: What the search would take.
    """
    cut = next((finalist for finalist in ranked if HAND_CUT in finalist.origin), choice)
    return [finalist for place, finalist in enumerate(ranked) if place < BEST or finalist in (choice, cut)]


def halve(
    supernet: PreTrainedModel,
    finalists: Sequence[Finalist],
    data,
    score: Callable[[PreTrainedModel], float],
    examples: int,
    settings: SearchArguments,
    accelerator: Accelerator,
    cost: SearchCost,
    keep: Collection[Architecture] = (),
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
    saved: Callable[[], None] | None = None,
) -> Decision | None:
    """Trains finalists in rounds, and leaves every loss in `finalists.jsonl`.

    Processes share the nets of a round, each of which one process trains by itself. A resumed run trains nothing again that
    the file knows.

    Args:
        supernet: After the search.
        finalists: The nets, the same on every process; the first is what the search would take.
        data: Training examples.
        score: A net -> its loss on data by which nothing was chosen before.
        examples: How many examples that takes.
        settings: Those of the search, with the finalists' own.
        accelerator: Processes, device and precision.
        cost: Says how many examples a step has, and what it costs; nothing is added to it.
        keep: Nets whose training may go on later: what it would go on from stays in `finalists/`.
        teacher: From whose outputs they learn beside the labels.
        start: The supernet as it was before the search, for `finalist_start="checkpoint"`.
        saved: Called by the main process after each round.

    Returns:
        The decision; None if it was interrupted.

    Raises:
        ValueError: The weights are sharded over processes (FSDP), so that none can train a net by itself.
        FloatingPointError: All trainings diverged.
    """
    check_whole(supernet, "finalists are trained")
    run_dir, horizon = Path(settings.output_dir), horizon_of(settings)
    source = (horizon, run_dir / "finalists", teacher, start)
    training = ShortTraining(supernet, data, settings, accelerator, *source, step=cost.batch_size)
    known, steps = KnownLosses(run_dir / "finalists.jsonl", accelerator), round_steps(len(finalists), horizon)
    known.read(settings.resume)
    before = dict(zip(steps, [0, *steps], strict=False))  # steps at the end of a round -> at its start
    if not steps:
        return Decision(list(finalists), [[] for _ in finalists], 0, [], None, known.cost)
    alive, ended, seeds = list(finalists), [], range(settings.finalist_seeds)
    losses = {finalist: [] for finalist in finalists}
    bar = progress_bar(accelerator, steps_in_all(len(finalists), steps, len(seeds)), 0, "finalists")

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

    def forget(finalist: Finalist) -> None:
        if finalist.arch not in keep:
            training.forget(finalist.arch)

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
            alive.sort(key=lambda finalist: losses[finalist][-1])
            if saved is not None and accelerator.is_main_process:
                saved()
            first = f"{alive[0].origin}, loss {losses[alive[0]][-1]:.3f}"
            bar.set_postfix_str(f"round {number} of {len(steps)}, first: {first}", refresh=False)
            finite = [finalist for finalist in alive if losses[finalist][-1] < math.inf] or alive
            kept = survivors(finite, finalists[0])
            alive, ended = kept, [finalist for finalist in alive if finalist not in kept] + ended
            bar.total = bar.n + steps_in_all(len(alive), steps[number:], len(seeds) if len(alive) > 1 else 1, until)
            if accelerator.is_main_process:
                for finalist in ended:
                    forget(finalist)
        seeds = seeds if len(alive) > 1 else seeds[:1]  # a choice without a rival stays, whatever its loss
        if not train([(finalist, seed, steps[-1]) for seed in seeds[1:] for finalist in alive]):
            return None
    by_seed = [[known.losses[finalist.arch, seed, steps[-1]] for seed in seeds] for finalist in alive]
    for finalist, found in zip(alive, by_seed, strict=True):
        losses[finalist][-1] = fmean(found)
    alive.sort(key=lambda finalist: losses[finalist][-1])
    if losses[alive[0]][-1] == math.inf:
        raise FloatingPointError("the short trainings of all finalists diverged; try a smaller --learning_rate")
    noise, choice = _noise(by_seed), finalists[0]
    if losses[choice][-1] - losses[alive[0]][-1] <= (noise or 0.0):
        alive.sort(key=lambda finalist: finalist is not choice)  # the rest stays in order
    ranked = alive + ended
    if accelerator.is_main_process:
        for finalist in finalists:
            forget(finalist)
        with suppress(OSError):  # it was never made, or holds something else
            training.folder.rmdir()
    shown = [[None if loss == math.inf else loss for loss in losses[finalist]] for finalist in ranked]
    return Decision(ranked, shown, len(alive), steps, noise, known.cost)


def _noise(by_net: Sequence[Sequence[float]]) -> float | None:
    """Standard error of a mean over seeds: the pooled standard deviation of a net's losses over the root of their number."""
    spreads = [stdev(found) for found in by_net if len(found) > 1 and math.inf not in found]
    return math.sqrt(mean(s**2 for s in spreads) / len(by_net[0])) if spreads else None


def steps_in_all(count: int, steps: Sequence[int], seeds: int, done: int = 0) -> int:
    """Steps of all trainings that are to come, at most.

    Args:
        count: How many nets are in the next round.
        steps: Steps at the end of the rounds that are to come.
        seeds: With how many seeds the last ones are trained.
        done: Steps that each has behind it.
    """
    total, last = 0, done
    for until in steps:
        total, last = total + count * (until - last), until
        count = min(count, BEST + 2)  # and the search's choice and the best cut by hand
    return total + min(BEST + 2, count) * (seeds - 1) * last
