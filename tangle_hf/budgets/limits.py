"""Budgets: upper limits of an architecture's parameters, FLOPs or latency, in units or relative to the largest net."""

import re
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedConfig

from ..cost.counts import parameter_entries
from ..cost.latency_tables import NANOSECONDS, LatencyTable, latency_cost
from ..cost.tables import CostTable, of_largest, tabulate


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Budget:
    """The most that one kind of cost may be.

    Args:
        cost: "params", "params_without_embeddings", "flops" or "latency_ms".
        limit: The largest cost that is allowed, as the table counts it.
        table: The cost of every architecture.
        unit: What the table counts in one unit of the cost: nanoseconds in a millisecond, else 1.
    """

    cost: str
    limit: int
    table: CostTable
    unit: int = 1

    def in_units(self, amount: float) -> float:
        """An amount of the table in units of the cost: milliseconds, or unchanged."""
        return amount if self.unit == 1 else amount / self.unit

    def text(self, amount: float) -> str:
        """The same to print."""
        return f"{amount:,}" if self.unit == 1 else f"{amount / self.unit:,.6g}"


def parse_amount(text: str | int | float, largest: int, unit: int = 1) -> int:
    """Reads "20M", "1.5G", "300000" or "50%" (of the largest architecture) as a whole number, rounded down.

    Args:
        text: A number with k, M, G (or B) or T behind it, or with %.
        largest: Cost of the largest architecture.
        unit: What a number without % is multiplied by.

    Raises:
        ValueError: It is no such number, it is not positive, or it is more than 100%.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgbt]?|%)\s*", str(text).replace("_", ""), re.IGNORECASE)
    if not found:
        raise ValueError(
            f"{text!r} is not a budget; give a positive number, one with k, M, G or T behind it such as 20M, or a share of "
            "the largest architecture such as 50%"
        )
    number, suffix = Fraction(found[1]), found[2].lower()
    if suffix == "%" and number > 100:
        raise ValueError(
            f"{text} is more than the largest architecture has; give at most 100%, or leave the budget out"
        )
    limit = int(number * largest / 100 if suffix == "%" else number * UNITS[suffix] * unit)
    if limit < 1:
        raise ValueError(f"{text!r} allows no architecture at all; a budget must be at least 1")
    return limit


def make_budgets(
    config: PreTrainedConfig,
    *,
    max_params: str | int | None = None,
    max_params_without_embeddings: str | int | None = None,
    max_flops: str | int | None = None,
    max_latency_ms: str | int | float | None = None,
    latency_table: LatencyTable | None = None,
    sequence_length: int | None = None,
) -> tuple[Budget, ...]:
    """The budgets that are given, in the order of the arguments.

    Args:
        config: The supernet's config.
        max_params: Most parameters, as `num_params` counts them; read by `parse_amount`, like the others.
        max_params_without_embeddings: The same without embedding tables.
        max_flops: Most FLOPs of a forward pass over one example, as `flops` counts them.
        max_latency_ms: Most milliseconds of a forward pass, as a latency table predicts them.
        latency_table: That table, measured by `tangle_hf.latency_profile.profile`.
        sequence_length: Tokens of an example, for the FLOPs; an image model has its own if None.

    Raises:
        ValueError: A budget cannot be read, FLOPs of text need a sequence length, or a latency needs a table.
    """
    given = {"params": max_params, "params_without_embeddings": max_params_without_embeddings, "flops": max_flops,
             "latency_ms": max_latency_ms}  # fmt: skip
    budgets = []
    for cost, text in given.items():
        if text is None:
            continue
        if cost == "latency_ms":
            if latency_table is None:
                raise ValueError(
                    "max_latency_ms needs a latency table; measure one with tangle_hf.latency_profile.profile"
                )
            table, unit = latency_cost(latency_table, config.space), NANOSECONDS
        elif cost == "flops":
            table, unit = tabulate(config.space, config.matrix_products(sequence_length)), 1
        else:
            table, unit = tabulate(config.space, parameter_entries(config, embeddings=cost == "params")), 1
        try:
            limit = parse_amount(text, of_largest(table), unit)
        except ValueError as error:
            raise ValueError(f"max_{cost}: {error}") from None
        budgets.append(Budget(cost, limit, table, unit))
    return tuple(budgets)
