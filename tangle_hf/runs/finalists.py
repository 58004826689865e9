"""The finalists of a run: trained briefly side by side, so that what a search returns is not worse than a cut by hand."""

from collections.abc import Sequence
from dataclasses import replace

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
from .run import Run


def decide(
    run: Run,
    supernet: PreTrainedModel,
    examples: Examples,
    found: Found | None,
    limits: Limits,
    teacher: Teacher | None = None,
    start: PreTrainedModel | None = None,
) -> Found | None:
    """Takes the best of the finalists, and prints a row for each.

    Args:
        run: The run; all of its processes call this.
        supernet: After the search.
        examples: To train the finalists on, and validation data, by which nothing was chosen so far.
        found: What the search has found; None on the other processes, and on the main one if the search was stopped.
        limits: What all finalists keep to.
        teacher: From whose outputs they learn beside the labels.
        start: The supernet as it was before the search, where they are trained from its slices.

    Returns:
        What was found, with the winner as its architecture; None if the finalists were interrupted or the search was, and on
        all processes but the main one.
    """
    settings = run.settings
    (proposed,) = broadcast_object_list([None if found is None else list(found.proposed)])
    if proposed is None:
        return None
    finalists = choose_finalists(supernet, proposed, settings, limits)
    if run.main_process:
        _say_what_is_missing(finalists, settings)
    batch, most = settings.per_device_batch_size, settings.finalist_batches

    def score(model: PreTrainedModel) -> float:
        examples.settle(model, batch, most)
        return examples.score(model, examples.validation, batch, most)["loss"]

    count = batch * most
    if hasattr(examples.validation, "__len__"):
        count = min(count, len(examples.validation))
    cost = SearchCost(supernet, step_size(settings, run.accelerator), examples.sequence_length)
    data = examples.training(settings.seed)
    decision = halve(
        supernet, finalists, data, score, count, settings, run.accelerator, cost, teacher, start, run.refresh_report
    )
    if decision is None:
        return run.stop()
    if not run.main_process:
        return None
    rows, winner = _rows(decision, supernet, found.arch), decision.ranked[0]
    print(f"validation loss of the finalists, trained from {STARTS[settings.finalist_start]}:")
    print(format_table(rows))
    if decision.noise is not None:
        print(
            f"the last losses of the first two are means over {settings.finalist_seeds} seeds, all others are of one seed"
        )
    print(_verdict(decision, supernet, found.arch))
    budgets = found.results["budgets"] | budget_use(
        winner.arch, limits.budgets
    )  # what is expected under the shares stays
    results = found.results | {
        "budgets": budgets,
        "finalists": {
            "steps": decision.steps,
            "start": settings.finalist_start,
            "noise": decision.noise,
            "cost": decision.cost,
            "chosen_by_search": found.arch.to_dict(),
            "changed": winner.arch != found.arch,
            "rows": rows,
        },
    }
    return replace(found, arch=winner.arch, cost=found.cost + decision.cost, results=results)


def _say_what_is_missing(finalists: Sequence[Finalist], settings: SearchArguments) -> None:
    """Says where there are fewer finalists than were asked for."""
    origins = [finalist.origin for finalist in finalists]
    proposed = sum(SEARCH in origin for origin in origins)
    if proposed < settings.proposed_finalists:
        print(
            f"the search proposes {proposed} different nets that use the budget, fewer than {settings.proposed_finalists}"
        )
    if origins.count(RANDOM) < settings.random_finalists:
        print(
            f"{origins.count(RANDOM)} other nets use the budget, fewer than random_finalists={settings.random_finalists}"
        )
    if not any(HAND_CUT in origin for origin in origins):
        print("no net with equal layers uses the budget, so that there is no cut by hand to compare with")


def _rows(decision: Decision, supernet: PreTrainedModel, chosen: Architecture) -> list[dict]:
    """A row for each finalist, the winner first; "-" in the rounds after it ended."""
    rows = []
    for finalist, losses in zip(decision.ranked, decision.losses, strict=True):
        origin = finalist.origin + (" (its choice)" if finalist.arch == chosen else "")
        row = {"finalist": origin, "parameters": num_params(supernet.space, finalist.arch, supernet.config)}
        for number, steps in enumerate(decision.steps):
            loss = losses[number] if number < len(losses) else "-"
            row[f"{steps} step{'s' * (steps > 1)}"] = "diverged" if loss is None else loss
        rows.append(row | {"architecture": str(finalist.arch)})
    return rows


def _verdict(decision: Decision, supernet: PreTrainedModel, chosen: Architecture) -> str:
    """Which finalist is taken, how far the best of each origin are apart in the last round, and what that is worth."""
    if not decision.steps:
        return "one finalist only: nothing to decide"
    stays = decision.ranked[0].arch == chosen
    taken = (
        "the search's choice stays" if stays else f"taken in place of the search's choice: {decision.ranked[0].origin}"
    )
    last = len(decision.steps)
    best = {}
    for finalist, losses in zip(decision.ranked, decision.losses, strict=True):
        if len(losses) == last and losses[-1] is not None:
            best.setdefault(finalist.origin, losses[-1])
    named = ", ".join(f"{origin} {loss:.3f}" for origin, loss in best.items())
    noise = "" if decision.noise is None else f"; standard error of such a loss between seeds {decision.noise:.3f}"
    plain_net = "largest" if supernet.space.ordered else "most expensive"  # a space of operations has no order
    cost = f"finalists cost: {decision.cost:,.1f} training steps of the {plain_net} net"
    return f"{taken}; best in the last round: {named}{noise}\n{cost}"
