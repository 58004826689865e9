"""Tables of architectures that are trained already: architecture -> metrics, for any space, so that a search can be scored.

A table is one of

- JSON lines: an object per line, `{"arch": {"normal": ["none", ...]}, "accuracy": 0.91, "seed": 0}`;
- JSON: a list of such objects, or an object of architecture (as text) -> metrics;
- CSV with a header: a column `arch`, and one per metric.

`arch` is the JSON of `architecture.json`, or text in the notation of the space, for NAS-Bench-201 its architecture string.
Metrics are finite numbers; several rows of one architecture, of several seeds say, are averaged, other values are left out.
"""

import csv
import json
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..space import Architecture


Table = dict[Architecture, dict[str, float]]


def read_table(path: str | Path, parse: Callable[[str], Architecture] | None = None) -> Table:
    """Reads a table.

    Args:
        path: A file ending in .jsonl, .json or .csv.
        parse: Notation of the space -> architecture, e.g. `functools.partial(architecture_of, "nas_bench_201")`.

    Raises:
        ValueError: There is no such file, its ending is another one, or a row cannot be read; names the row.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no table {path}; give a .jsonl, .json or .csv file")
    collected: dict[Architecture, list[dict[str, float]]] = {}
    for number, row in enumerate(_rows(path), 1):
        if "arch" not in row:
            raise ValueError(f"row {number} of {path} has no arch; it has {list(row)}")
        try:
            arch = _architecture(row["arch"], parse)
            metrics = _metrics(row)
        except (TypeError, ValueError) as error:  # values of the wrong type
            raise ValueError(f"row {number} of {path}: {error}") from None
        collected.setdefault(arch, []).append(metrics)
    return {arch: _means(found) for arch, found in collected.items()}


def look_up(table: Mapping[Architecture, Mapping[str, float]], arch: Architecture) -> dict[str, float]:
    """The metrics of an architecture.

    Raises:
        ValueError: The table does not have it; says how many it has, and one of them.
    """
    if arch not in table:
        example = f", e.g. {next(iter(table))}" if table else ""
        raise ValueError(f"the table has no architecture {arch}; it has {len(table)} others{example}")
    return dict(table[arch])


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin their files with a mark
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path} is no table; its name must end in .jsonl, .json or .csv")
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if isinstance(rows, dict) and all(isinstance(metrics, dict) for metrics in rows.values()):
        rows = [{"arch": arch, **metrics} for arch, metrics in rows.items()]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must hold a list of objects, or an object of architecture -> metrics")
    return rows


def _architecture(value: str | dict, parse: Callable[[str], Architecture] | None) -> Architecture:
    if isinstance(value, dict):
        return Architecture(value)
    if not isinstance(value, str):
        raise ValueError(f"arch={value!r} must be an object or text")
    if value.lstrip().startswith("{"):
        try:
            return Architecture.from_json(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{value!r} is no architecture: {error}") from None
    if parse is None:
        raise ValueError(f"arch={value!r} is no JSON, and this space has no notation of its own")
    return parse(value)


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row; no regret can be taken of the others."""
    metrics = {}
    for name, value in row.items():
        if name != "arch" and not isinstance(value, bool):
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if math.isfinite(number):
                metrics[name] = number
    if not metrics:
        raise ValueError(f"there is no metric; it has {list(row)}")
    return metrics


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean(row[name] for row in rows if name in row) for name in names}
