"""Rows as text."""

from collections.abc import Mapping, Sequence


def format_table(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """Rows with the same keys as an aligned text table; numbers are right-aligned, integers with thousands separators."""
    header = list(rows[0])
    cells = [header, *[[format_cell(row[key]) for key in header] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    numeric = [not isinstance(rows[0][key], str) for key in header]
    lines = [
        "  ".join(
            c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def format_cell(value: str | int | float) -> str:
    """A number for reading: thousands separators, or four significant digits."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
