"""The second stage of two-stage methods: which candidate inherits the smallest loss from the trained supernet."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ...cost.counts import parameter_entries
from ...cost.latency_tables import NANOSECONDS, latency_cost, load_latency_table
from ...cost.tables import exact, tabulate
from ...space import Architecture
from ..loop import progress_bar, stop_on_signal
from ..search_cost import SearchCost, flops_table
from ..settings import SearchArguments
from .candidates import CandidateLog
from .evolution import Strategy, evolution, random_search
from .nsga2_search import nsga2
from .proposals import Proposals


Costs = dict[str, Callable[[Architecture], int | float]]


def search_candidates(
    supernet: PreTrainedModel,
    evaluate: Callable[[Architecture], Mapping[str, float]],
    examples: int,
    arguments: SearchArguments,
    accelerator: Accelerator,
    cost: SearchCost,
    sequence_length: int | None = None,
) -> CandidateLog | None:
    """Searches by the strategy of the method, and leaves every candidate in `candidates.jsonl` of `arguments.output_dir`.

    A strategy is a function of the seed and of the losses it is told. An interrupted search is therefore repeated from its
    start with the losses that the file holds, and goes on where it stopped. Every process runs the same strategy.

    Args:
        supernet: After training.
        evaluate: Architecture -> scores with the supernet's weights, "loss" among them; the same on every process.
        examples: How many examples an evaluation takes.
        arguments: Settings; with `resume`, candidates in the file are not evaluated again.
        accelerator: Processes.
        cost: What `train_single_paths` returned; evaluations are added.
        sequence_length: Tokens of an example, which FLOPs of a language model need.

    Returns:
        The candidates; None if the search was interrupted.

    Raises:
        ValueError: As `Proposals` and `CandidateLog`.
        FloatingPointError: A candidate's loss is not finite.
    """
    costs = _costs(arguments, supernet, sequence_length)
    path = Path(arguments.output_dir) / "candidates.jsonl"
    log = CandidateLog(path, accelerator, evaluate, examples, cost, costs, arguments.resume)
    proposals = Proposals(arguments, supernet, sequence_length)
    strategy = _strategy(proposals, arguments, costs)
    bar = progress_bar(accelerator, arguments.population_size * arguments.generations, len(log.records), "candidates")
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
            try:
                archs, generation = strategy.send(losses), generation + 1
            except StopIteration:
                return log


def _strategy(proposals: Proposals, arguments: SearchArguments, costs: Costs) -> Strategy:
    if arguments.resolved_method.choice == "rs":
        return random_search(proposals, arguments)
    if arguments.resolved_method.choice == "es":
        return evolution(proposals, arguments)
    return nsga2(proposals, arguments, costs[arguments.nsga2_cost])


def _costs(arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None) -> Costs:
    """What there is to know of a candidate without running it; milliseconds where there is a latency table."""
    space, config = supernet.space, supernet.config
    tables = {
        "params": tabulate(space, parameter_entries(config)),
        "params_without_embeddings": tabulate(space, parameter_entries(config, embeddings=False)),
        "flops": flops_table(supernet, sequence_length),
    }
    costs = {name: partial(exact, table) for name, table in tables.items()}
    if arguments.latency_table is not None:
        table = latency_cost(load_latency_table(arguments.latency_table), space)
        costs["latency_ms"] = lambda arch: exact(table, arch) / NANOSECONDS
    return costs
