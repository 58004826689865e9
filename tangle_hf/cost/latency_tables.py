"""Measured latency as a table: where it was measured, what each choice takes, and when it may be used elsewhere.

A latency is predicted as a sum, like every other cost (`cost_table`):

    latency(arch) = outside(choices of the whole net) + sum over its layers and groups g of layer_g(choices)

so that budgets, expectations and the exact discretisation work on it as they are. It is counted in whole nanoseconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import to_json
from ..space import Architecture, SearchSpace
from .tables import CostTable, Term, exact


NANOSECONDS = 10**6  # in a millisecond
# Conditions that a table and its user must share. Versions of libraries are recorded, and differences warned of.
BINDING = (
    "device",
    "device_name",
    "dtype",
    "batch_size",
    "sequence_length",
    "threads",
    "attention",
    "params",
    "flops",
)
VERSIONS = ("torch", "transformers")


@dataclass(frozen=True)
class Part:
    """One sum of a latency.

    Args:
        dimensions: What it depends on.
        in_layers: Whether every layer pays it, or the net once.
        ms: Milliseconds for every combination of choices, float64 of shape (K_1, ..., K_n).
    """

    dimensions: tuple[str, ...]
    in_layers: bool
    ms: Tensor


@dataclass(frozen=True)
class LatencyTable:
    """What was measured, and where.

    Args:
        conditions: Device, type, batch and so on, as `tangle_hf.cost.timing.conditions`.
        space: Whose choices the parts run over.
        parts: The sums of a latency.
        nets: The nets that were timed for it: architecture, predicted and measured milliseconds.
    """

    conditions: Mapping[str, Any]
    space: SearchSpace
    parts: tuple[Part, ...]
    nets: tuple[Mapping[str, Any], ...] = ()


def check_layers(space: SearchSpace) -> None:
    """Refuses a space whose layers are not alike, of which one time could not stand for all.

    Raises:
        ValueError: It has stages, or dimensions with a number of rows of their own.
    """
    if space.stages > 1 or (space.per_layer and space.depth_name is None):
        raise ValueError(
            f"latency is predicted for nets of one stack of like layers, and this space has stages or rows of its own: "
            f"{space}. Use max_params or max_flops"
        )


def latency_cost(table: LatencyTable, space: SearchSpace) -> CostTable:
    """The latency of every architecture of a space, in whole nanoseconds.

    Args:
        table: Measured on this space, or on one that has all its choices.
        space: The search space.

    Raises:
        ValueError: The table does not know a choice of the space, or its layers are not alike.
    """
    check_layers(space)
    terms = []
    for part in table.parts:
        ms = part.ms
        for axis, name in enumerate(part.dimensions):
            known, wanted = table.space.choices[name], space.choices.get(name, ())
            if not wanted or not set(wanted) <= set(known) or (name in space.per_layer and not part.in_layers):
                raise ValueError(
                    f"the latency table knows {name} in {known}, for the whole of a net or for a layer of its own as in "
                    f"{table.space}; this space is {space}. Measure a table for it"
                )
            ms = ms.index_select(axis, torch.tensor([known.index(choice) for choice in wanted]))
        layers = tuple(range(space.max_depth)) if part.in_layers else (None,)
        values = (ms * NANOSECONDS).round().long()
        terms.append(Term(part.dimensions, layers, values.expand(len(layers), *values.shape)))
    return CostTable(space, tuple(terms))


def latency_ms(table: LatencyTable, arch: Architecture) -> float:
    """The predicted latency of an architecture of the table's space, in milliseconds."""
    table.space.validate(arch)
    return exact(latency_cost(table, table.space), arch) / NANOSECONDS


def save_latency_table(table: LatencyTable, path: str | Path) -> None:
    """Writes a table as JSON; the file appears when it is whole."""
    parts = [
        {
            "dimensions": {name: list(table.space.choices[name]) for name in part.dimensions},
            "paid": "by every layer" if part.in_layers else "once",
            "ms": part.ms.tolist(),
        }
        for part in table.parts
    ]
    data = {"conditions": dict(table.conditions), "space": table.space.to_dict(), "parts": parts, "nets": table.nets}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(to_json(data, indent=1) + "\n")
    partial.rename(path)


def load_latency_table(path: str | Path) -> LatencyTable:
    """Reads what `save_latency_table` wrote.

    Raises:
        ValueError: There is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"there is no latency table {path}; give the latency_table.json of a run, or none to have one measured"
        )
    try:
        data = json.loads(path.read_text())
        parts = tuple(
            Part(tuple(p["dimensions"]), p["paid"] == "by every layer", torch.tensor(p["ms"], dtype=torch.float64))
            for p in data["parts"]
        )
        space = SearchSpace.from_dict(data["space"])
        table = LatencyTable(data["conditions"], space, parts, tuple(data["nets"]))
        whole = all(p.ms.shape == tuple(len(space.choices[n]) for n in p.dimensions) for p in parts)
        times = all((p.ms >= 0).all() and p.ms.isfinite().all() for p in parts)
        if not (whole and times and set(BINDING + VERSIONS) <= set(table.conditions)):
            raise ValueError("a part or a condition is missing, or a time is negative or not finite")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no latency table ({error!r}); measure one anew") from None
    return table


def check_latency_table(
    table: LatencyTable, space: SearchSpace, conditions: Mapping[str, Any], *, allow_other: bool = False
) -> list[str]:
    """Refuses a table that was measured under other conditions.

    Args:
        table: The table.
        space: The search space it is to be used for.
        conditions: The conditions here.
        allow_other: Accept a table of other conditions, as long as it knows all choices of the space.

    Returns:
        What differs, for a warning: versions of libraries, and with `allow_other` everything.

    Raises:
        ValueError: A binding condition or the space differs, or a choice is missing.
    """
    stored = {**table.conditions, "space": table.space}
    here = {**conditions, "space": space}
    binding = [_difference(n, stored[n], here[n]) for n in (*BINDING, "space") if stored[n] != here[n]]
    versions = [_difference(n, stored[n], here[n]) for n in VERSIONS if stored[n] != here[n]]
    if binding and not allow_other:
        raise ValueError(
            f"the latency table was measured under other conditions: {'; '.join(binding)}. Use one that was "
            "measured here, or take this one as it is with allow_other_latency_table"
        )
    latency_cost(table, space)
    return binding + versions


def _difference(name: str, stored: Any, here: Any) -> str:
    smallest_and_largest = " of the smallest and the largest net" if name in ("params", "flops") else ""
    return f"{name}{smallest_and_largest} {stored} there, {here} here"
