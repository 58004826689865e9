"""The kinds of cost that can be limited, searched for a front and printed. A new one is a row here and a field `max_...`
of `LimitArguments`."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedConfig

from .counts import parameter_entries
from .latency_tables import NANOSECONDS, LatencyTable, latency_cost
from .tables import CostTable, tabulate


@dataclass(frozen=True)
class Given:
    """What a cost may need beside the supernet's config.

    Args:
        sequence_length: Tokens of an example of text; an image model has its own.
        latency_table: Measured times.
    """

    sequence_length: int | None = None
    latency_table: LatencyTable | None = None


@dataclass(frozen=True)
class Cost:
    """One kind of cost.

    Args:
        table: Config of the supernet, and what else is given -> the cost of every architecture, in whole numbers.
        words: What is counted, as it is printed; "{example}" becomes "block" or "image".
        unit: What the table counts in one unit of the cost.
        digits: Behind the point, where an amount is no whole number.
    """

    table: Callable[[PreTrainedConfig, Given], CostTable]
    words: str
    unit: int = 1
    digits: int = 0


def _params(config: PreTrainedConfig, given: Given, embeddings: bool = True) -> CostTable:
    return tabulate(config.space, parameter_entries(config, embeddings))


def _params_without_embeddings(config: PreTrainedConfig, given: Given) -> CostTable:
    return _params(config, given, embeddings=False)


def _flops(config: PreTrainedConfig, given: Given) -> CostTable:
    return tabulate(config.space, config.matrix_products(given.sequence_length))


def _latency(config: PreTrainedConfig, given: Given) -> CostTable:
    if given.latency_table is None:
        raise ValueError(
            "max_latency_ms needs a latency table; measure one with tangle_hf.cost.latency_profiles.profile"
        )
    return latency_cost(given.latency_table, config.space)


COSTS = {
    "params": Cost(_params, "parameters"),
    "params_without_embeddings": Cost(_params_without_embeddings, "parameters without embeddings"),
    "flops": Cost(_flops, "FLOPs per {example}"),
    "latency_ms": Cost(_latency, "ms per forward pass (predicted)", NANOSECONDS, digits=3),
}
LIMITS = {f"max_{name}": name for name in COSTS}  # name of a setting -> the cost that it limits
