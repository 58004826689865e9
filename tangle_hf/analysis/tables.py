"""Rows as text."""

import math
from collections.abc import Mapping, Sequence


def format_table(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """Rows with the same keys as an aligned text table; numbers stand with their points below each other."""
    header = list(rows[0])
    columns = [format_column([row[key] for row in rows]) for key in header]
    cells = [header, *map(list, zip(*columns, strict=True))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    numeric = [any(not isinstance(row[key], str) for row in rows) for key in header]
    lines = [
        "  ".join(
            c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def format_column(values: Sequence[str | int | float]) -> list[str]:
    """The cells of a column: floats with equally many decimals, at least four digits of the largest, three of the smallest."""
    cells = list(map(format_cell, values))
    floats = {number: value for number, value in enumerate(values) if isinstance(value, float)}
    sizes = [math.floor(math.log10(abs(value))) for value in floats.values() if value and math.isfinite(value)]
    if not sizes or any("e" in cells[number] for number in floats):
        return cells
    decimals = max(len(cells[number].partition(".")[2]) for number in floats)
    decimals = min(decimals, max(3 - max(sizes), 2 - min(sizes), 0))
    return [f"{floats[number]:.{decimals}f}" if number in floats else cell for number, cell in enumerate(cells)]


def format_cell(value: str | int | float) -> str:
    """A number for reading: thousands separators, or four significant digits."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
