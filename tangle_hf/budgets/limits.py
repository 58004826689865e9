"""Budgets: upper limits of an architecture's parameters, FLOPs or latency, in units or relative to the largest net."""

import re
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedConfig

from ..cost.kinds import COSTS, LIMITS, Given
from ..cost.latency_tables import LatencyTable
from ..cost.tables import CostTable, of_largest


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Budget:
    """The most that one kind of cost may be.

    Args:
        cost: Its name in `COSTS`.
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
        """An amount of the table as text, in units of the cost."""
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
    latency_table: LatencyTable | None = None,
    sequence_length: int | None = None,
    **limits: str | int | float | None,
) -> tuple[Budget, ...]:
    """The budgets that are given, in the order of `COSTS`.

    Args:
        config: The supernet's config.
        latency_table: Measured times, by `tangle_hf.cost.latency_profiles.profile`, for `max_latency_ms`.
        sequence_length: Tokens of an example, for the FLOPs of text; an image model has its own.
        **limits: `max_params`, `max_flops` and so on, `max_` before a name of `COSTS` -> the most that it may be, read by
            `parse_amount`; None: no limit.

    Raises:
        ValueError: There is no such cost, a budget cannot be read, FLOPs of text need a sequence length, or a latency needs
            a table.
    """
    if unknown := limits.keys() - LIMITS.keys():
        raise ValueError(f"{sorted(unknown)} are no budgets; there are {list(LIMITS)}")
    budgets, given = [], Given(sequence_length, latency_table)
    for name, cost in LIMITS.items():
        if limits.get(name) is None:
            continue
        table, unit = COSTS[cost].table(config, given), COSTS[cost].unit
        try:
            limit = parse_amount(limits[name], of_largest(table), unit)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        budgets.append(Budget(cost, limit, table, unit))
    return tuple(budgets)
