"""The second stage of two-stage methods: which candidate inherits the smallest loss from the trained supernet."""

from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..cost import parameter_entries
from ..cost_table import CostTable, exact, tabulate
from ..space import Architecture
from .arguments import SearchArguments
from .candidates import CandidateLog
from .evolution import Strategy, evolution, random_search
from .nsga2 import nsga2
from .proposals import Proposals
from .search_cost import SearchCost, flops_table
from .training import progress_bar, stop_on_signal


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
    tables = _tables(supernet, sequence_length)
    path = Path(arguments.output_dir) / "candidates.jsonl"
    log = CandidateLog(path, accelerator, evaluate, examples, cost, tables, arguments.resume)
    proposals = Proposals(arguments, supernet, sequence_length)
    strategy = _strategy(proposals, arguments, tables)
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


def _strategy(proposals: Proposals, arguments: SearchArguments, tables: Mapping[str, CostTable]) -> Strategy:
    if arguments.resolved_method.choice == "rs":
        return random_search(proposals, arguments)
    if arguments.resolved_method.choice == "es":
        return evolution(proposals, arguments)
    return nsga2(proposals, arguments, lambda arch: exact(tables[arguments.nsga2_cost], arch))


def _tables(supernet: PreTrainedModel, sequence_length: int | None) -> dict[str, CostTable]:
    parameters = {
        "params": parameter_entries(supernet.config),
        "params_without_embeddings": parameter_entries(supernet.config, embeddings=False),
    }
    tables = {name: tabulate(supernet.space, entries) for name, entries in parameters.items()}
    return tables | {"flops": flops_table(supernet, sequence_length)}
