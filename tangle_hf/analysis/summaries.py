"""Cells of the tables of a comparison: means with their intervals, and tests, as numbers and as text."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


NONE = "-"
OWN_SEEDS = "each its own"
ONE = {"nets": "net", "searches": "search", "seeds": "seed"}


def summary(values: Sequence[float], of: str) -> dict[str, Any]:
    """Mean, standard deviation and 95 % t-interval of some values.

    Args:
        values: Independent draws.
        of: What they are: "nets", "searches" or "seeds".
    """
    from .intervals import interval  # needs scipy, which whoever only shows summaries may lack

    mean = statistics.mean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": mean, "deviation": spread, "interval": interval(values), "values": list(values), "of": of}


def as_text(row: Mapping[str, Any]) -> dict[str, str | int | float]:
    """A row of a table as it is printed."""
    return {name: _cell(value) for name, value in row.items()}


def difference_row(test: Mapping[str, Any]) -> dict[str, str]:
    """A test as it is printed; where there are too few nets for one, the last column says so instead of p."""
    row = {"first": test["first"], "second": test["second"], "horizon": f"{test['horizon']:g}"}
    row |= {"nets": f"{test['first_nets']} and {test['second_nets']}", "both": str(test["shared"])}
    row["seeds"] = OWN_SEEDS if test["seeds"] is None else " ".join(map(str, test["seeds"]))
    row["difference"] = NONE if test["difference"] is None else _with_interval(test["difference"], test["interval"])
    row["p"] = test["too_few"] or (NONE if test["p"] is None else f"{test['p']:.2g}")
    return row


def _cell(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict):
        return NONE if value is None else value
    if value["mean"] is None:
        return NONE
    count = len(value["values"])
    unit = ONE[value["of"]] if count == 1 else value["of"]
    return f"{_with_interval(value['mean'], value['interval'])} ({count} {unit})"


def _with_interval(mean: float, ends: Sequence[float] | None) -> str:
    return f"{mean:.4f}" + ("" if ends is None else f" [{ends[0]:.4f}, {ends[1]:.4f}]")
