"""The finalists of a run: trained briefly side by side, so that what a search returns is not worse than a cut by hand."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.counts import num_params
from ..data.examples import Examples
from ..search import SearchArguments
from ..search.choice import budget_use
from ..search.distillation import Teacher
from ..search.finalists.candidates import HAND_CUT, RANDOM, SEARCH, Finalist, choose_finalists
from ..search.finalists.halving import Decision, halve
from ..search.finalists.settings import STARTS
from ..search.limits import Limits
from ..search.loop import step_size
from ..search.search_cost import SearchCost
from ..space import Architecture
from .found import Found


def decide(
    supernet: PreTrainedModel,
    examples: Examples,
    found: Found | None,
    limits: Limits,
    settings: SearchArguments,
    accelerator: Accelerator,
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
    saved: Callable[[], None] | None = None,
    stopped: Callable[[], None] | None = None,
    step: int | None = None,
) -> Found | None:
    """Takes the best of the finalists, and prints a row for each.

    Args:
        supernet: After the search.
        examples: To train the finalists on, and validation data, by which nothing was chosen so far.
        found: What the search has found; None on the other processes, and on the main one if the search was stopped.
        limits: What all finalists keep to.
        settings: Those of the search, with the finalists' own.
        accelerator: The processes, all of which call this.
        teacher: From whose outputs they learn beside the labels.
        start: The supernet as it was before the search, where they are trained from its slices.
        saved: Called by the main process after each round.
        stopped: Called if it was interrupted.
        step: Examples of a step; None: as many as one of the search on these processes.

    Returns:
        What was found, with the winner as its architecture; None if the finalists were interrupted or the search was, and on
        all processes but the main one.
    """
    (proposed,) = broadcast_object_list([None if found is None else list(found.proposed)])
    if proposed is None:
        return None
    finalists = choose_finalists(supernet, proposed, settings, limits)
    if accelerator.is_main_process:
        print_lines(missing(finalists, settings))
    decision = train_finalists(supernet, examples, finalists, settings, accelerator, (), teacher, start, saved, step)
    if decision is None and stopped is not None:
        stopped()
    if decision is None or not accelerator.is_main_process:
        return None
    results = found.results | {
        "budgets": found.results["budgets"] | budget_use(decision.ranked[0].arch, limits.budgets),
        "finalists": report_finalists(decision, supernet, found.arch, settings),
    }  # what is expected under the shares stays
    return replace(found, arch=decision.ranked[0].arch, cost=found.cost + decision.cost, results=results)


def train_finalists(
    supernet: PreTrainedModel,
    examples: Examples,
    finalists: Sequence[Finalist],
    settings: SearchArguments,
    accelerator: Accelerator,
    keep: Collection[Architecture] = (),
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
    saved: Callable[[], None] | None = None,
    step: int | None = None,
) -> Decision | None:
    """`halve` on the training data of some examples, by the first validation batches of a step's size."""
    size, step = settings.per_device_batch_size, step or step_size(settings, accelerator)
    most = settings.finalist_batches * step // size  # of the batches that one process scores at a time

    def score(model: PreTrainedModel) -> float:
        examples.settle(model, size, most)
        return examples.score(model, examples.validation, size, most)["loss"]

    count = settings.finalist_batches * step
    if hasattr(examples.validation, "__len__"):
        count = min(count, len(examples.validation))
    cost = SearchCost(supernet, step, examples.sequence_length)
    data = examples.training(settings.seed)
    return halve(supernet, finalists, data, score, count, settings, accelerator, cost, keep, teacher, start, saved)


def report_finalists(
    decision: Decision, supernet: PreTrainedModel, chosen: Architecture, settings: SearchArguments
) -> dict:
    """Prints a row for each finalist, and what decided.

    Args:
        decision: What came of them.
        supernet: After the search.
        chosen: What the search itself would have taken.
        settings: With how many seeds, and from where, they were trained.

    Returns:
        What `results.json` says of them.
    """
    table = rows(decision, supernet, chosen)
    print(f"validation loss of the finalists, trained from {STARTS[settings.resolved_finalist_start]}:")
    print(format_table(table))
    if decision.noise is not None:
        others = "; all others are of one seed" if decision.seeded < len(table) or len(decision.steps) > 1 else ""
        print(
            f"the last losses of the first {decision.seeded} are means over {settings.finalist_seeds} seeds, with a standard "
            f"error of {decision.noise:.3f}{others}"
        )
    print(verdict(decision, chosen))
    plain_net = "largest" if supernet.space.ordered else "most expensive"  # a space of operations has no order
    print(f"finalists cost: {decision.cost:,.1f} training steps of the {plain_net} net")
    return {
        "steps": decision.steps,
        "start": settings.resolved_finalist_start,
        "seeded": decision.seeded,
        "noise": decision.noise,
        "cost": decision.cost,
        "chosen_by_search": chosen.to_dict(),
        "changed": decision.ranked[0].arch != chosen,
        "rows": table,
    }


def missing(finalists: Sequence[Finalist], settings: SearchArguments) -> list[str]:
    """A line for each kind of finalist of which there are fewer than were asked for."""
    origins, lines = [finalist.origin for finalist in finalists], []
    use = "use the budget and " if settings.given_limits() else ""
    proposed = sum(SEARCH in origin for origin in origins)
    if proposed < settings.proposed_finalists:
        lines.append(
            f"the search proposes {proposed} different nets that {use}are as deep as its choice, fewer than "
            f"{settings.proposed_finalists}"
        )
    if origins.count(RANDOM) < settings.random_finalists:
        lines.append(
            f"{origins.count(RANDOM)} other nets {use}are as deep, fewer than "
            f"random_finalists={settings.random_finalists}"
        )
    if settings.given_limits() and not any(HAND_CUT in origin for origin in origins):
        lines.append(
            "no net with equal layers uses the budget and is as deep as the search's choice: there is no cut by hand to "
            "compare with"
        )
    return lines


def print_lines(lines: Sequence[str]) -> None:
    """Prints each."""
    for line in lines:
        print(line)


def rows(decision: Decision, supernet: PreTrainedModel, chosen: Architecture) -> list[dict]:
    """A row for each finalist, the winner first; "-" in the rounds after it ended."""
    found = []
    for finalist, losses in zip(decision.ranked, decision.losses, strict=True):
        origin = finalist.origin + (" (its choice)" if finalist.arch == chosen else "")
        row = {"finalist": origin, "parameters": num_params(supernet.space, finalist.arch, supernet.config)}
        for number, steps in enumerate(decision.steps):
            loss = losses[number] if number < len(losses) else "-"
            row[f"{steps} step{'s' * (steps > 1)}"] = "diverged" if loss is None else loss
        found.append(row | {"architecture": str(supernet.by_position(finalist.arch))})
    return found


def verdict(decision: Decision, chosen: Architecture) -> str:
    """Which finalist is taken, and how far it is ahead of the best cut by hand and of what the search would have taken."""
    if not decision.steps:
        return "one finalist only: nothing to decide"
    winner, *others = decision.ranked
    stays, words = winner.arch == chosen, []
    taken = "the search's choice stays" if stays else f"taken in place of the search's choice: {winner.origin}"
    rivals = {"the search's choice": lambda finalist: finalist.arch == chosen}
    if HAND_CUT not in winner.origin:
        rivals["the best cut by hand"] = lambda finalist: HAND_CUT in finalist.origin
    for name, is_it in rivals.items():
        number = next((n for n, finalist in enumerate(others, 1) if is_it(finalist)), None)
        if number is not None:
            words.append(f"{gap(decision, number)} {name}")
    return "; ".join([taken, *words])


def gap(decision: Decision, number: int) -> str:
    """How far the winner was ahead of another finalist, or behind it, after the last round that both were in."""
    loss, made = decision.losses[number][-1], len(decision.losses[number])
    if loss is None:
        return "ahead of"
    ahead = loss - decision.losses[0][made - 1]
    return f"{abs(ahead):.3f} {'ahead of' if ahead >= 0 else 'behind'}"
