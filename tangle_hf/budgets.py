"""Budgets: upper limits of an architecture's parameters or FLOPs, given in units or relative to the largest net."""

import re
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedConfig

from .cost import parameter_entries
from .cost_table import CostTable, exact, tabulate


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Budget:
    """The most that one kind of cost may be.

    Args:
        cost: "params", "params_without_embeddings" or "flops".
        limit: The largest cost that is allowed.
        table: The cost of every architecture.
    """

    cost: str
    limit: int
    table: CostTable


def parse_amount(text: str | int, largest: int) -> int:
    """Reads "20M", "1.5G", "300000" or "50%" (of the largest architecture) as a whole number, rounded down.

    Args:
        text: A number with k, M, G (or B) or T behind it, or with %.
        largest: Cost of the largest architecture.

    Raises:
        ValueError: It is no such number, it is not positive, or it is more than 100%.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgbt]?|%)\s*", str(text).replace("_", ""), re.IGNORECASE)
    if not found:
        raise ValueError(
            f"{text!r} is not a budget; give a positive number, one with k, M, G or T behind it such as 20M, or a share of "
            "the largest architecture such as 50%"
        )
    number, unit = Fraction(found[1]), found[2].lower()
    if unit == "%" and number > 100:
        raise ValueError(
            f"{text} is more than the largest architecture has; give at most 100%, or leave the budget out"
        )
    limit = int(number * largest / 100 if unit == "%" else number * UNITS[unit])
    if limit < 1:
        raise ValueError(f"{text!r} allows no architecture at all; a budget must be at least 1")
    return limit


def make_budgets(
    config: PreTrainedConfig,
    *,
    max_params: str | int | None = None,
    max_params_without_embeddings: str | int | None = None,
    max_flops: str | int | None = None,
    sequence_length: int | None = None,
) -> tuple[Budget, ...]:
    """The budgets that are given, in the order of the arguments.

    Args:
        config: The supernet's config.
        max_params: Most parameters, as `num_params` counts them; read by `parse_amount`, like the others.
        max_params_without_embeddings: The same without embedding tables.
        max_flops: Most FLOPs of a forward pass over one example, as `flops` counts them.
        sequence_length: Tokens of an example, for the FLOPs; an image model has its own if None.

    Raises:
        ValueError: A budget cannot be read, or FLOPs of text need a sequence length.
    """
    budgets = []
    given = {"params": max_params, "params_without_embeddings": max_params_without_embeddings, "flops": max_flops}
    for cost, text in given.items():
        if text is None:
            continue
        entries = (
            config.matrix_products(sequence_length)
            if cost == "flops"
            else parameter_entries(config, embeddings=cost == "params")
        )
        table = tabulate(config.space, entries)
        try:
            limit = parse_amount(text, exact(table, config.space.largest))
        except ValueError as error:
            raise ValueError(f"max_{cost}: {error}") from None
        budgets.append(Budget(cost, limit, table))
    return tuple(budgets)
