"""The second stage of two-stage methods: which candidate inherits the smallest loss from the trained supernet."""

from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ...cost.kinds import COSTS, Given
from ...cost.tables import CostTable, exact
from ...space import Architecture
from ..limits import Limits
from ..loop import progress_bar, stop_on_signal
from ..search_cost import SearchCost, example_length
from ..settings import SearchArguments
from ..sharding import check_whole
from .candidates import CandidateLog
from .evolution import Strategy, evolution, random_search
from .nsga2_search import nsga2
from .proposals import Proposals


Costs = dict[str, Callable[[Architecture], int | float]]


def search_candidates(
    supernet: PreTrainedModel,
    evaluate: Callable[[Architecture], Mapping[str, float]],
    examples: int,
    settings: SearchArguments,
    accelerator: Accelerator,
    cost: SearchCost,
    limits: Limits | None = None,
    saved: Callable[[], None] | None = None,
) -> CandidateLog | None:
    """Searches by the strategy of the method, and leaves every candidate in `candidates.jsonl` of `settings.output_dir`.

    A strategy is a function of the seed and of the losses it is told. An interrupted search is therefore repeated from its
    start with the losses that the file holds, and goes on where it stopped. Every process runs the same strategy.

    Args:
        supernet: After training.
        evaluate: Architecture -> scores with the supernet's weights, "loss" among them; the same on every process.
        examples: How many examples an evaluation takes.
        settings: Settings; with `resume`, candidates in the file are not evaluated again.
        accelerator: Processes.
        cost: What `train_single_paths` returned; evaluations are added.
        limits: Those of the search; None makes them from the settings.
        saved: Called by the main process after each generation.

    Returns:
        The candidates; None if the search was interrupted.

    Raises:
        ValueError: The limits cannot be made or kept, or the weights are sharded over processes (FSDP).
        FloatingPointError: A candidate's loss is not finite.
    """
    check_whole(supernet, "candidates are evaluated")
    limits = limits or Limits.of(settings, supernet)
    costs = _costs(supernet, limits)
    path = Path(settings.output_dir) / "candidates.jsonl"
    log = CandidateLog(path, accelerator, evaluate, examples, cost, costs, settings.resume)
    proposals = Proposals(settings, supernet, limits)
    strategy = _strategy(proposals, settings, costs)
    bar = progress_bar(accelerator, settings.population_size * settings.generations, len(log.records), "candidates")
    best = min((record["loss"] for record in log.records.values()), default=float("inf"))

    def show(record: dict) -> None:
        nonlocal best
        best = min(best, record["loss"])
        bar.set_postfix_str(f"best loss {best:.3f}", refresh=False)
        bar.update()

    with stop_on_signal(accelerator), bar:
        archs, generation = next(strategy), 0
        while True:
            losses = log.evaluate(archs, generation, show)
            if losses is None:
                return None
            if saved is not None and accelerator.is_main_process:
                saved()
            try:
                archs, generation = strategy.send(losses), generation + 1
            except StopIteration:
                return log


def _strategy(proposals: Proposals, settings: SearchArguments, costs: Costs) -> Strategy:
    if settings.resolved_method.choice == "rs":
        return random_search(proposals, settings)
    if settings.resolved_method.choice == "es":
        return evolution(proposals, settings)
    return nsga2(proposals, settings, costs[settings.nsga2_cost])


def _costs(supernet: PreTrainedModel, limits: Limits) -> Costs:
    """What there is to know of a candidate without running it; milliseconds where there is a latency table."""
    given = Given(example_length(supernet, limits.sequence_length), limits.latency_table)
    known = {name: cost for name, cost in COSTS.items() if limits.latency_table is not None or name != "latency_ms"}
    return {name: _cost(cost.table(supernet.config, given), cost.unit) for name, cost in known.items()}


def _cost(table: CostTable, unit: int) -> Callable[[Architecture], int | float]:
    return lambda arch: exact(table, arch) if unit == 1 else exact(table, arch) / unit
