"""Curves over the steps of a run: the data, and their picture. Cards and the report in a browser draw the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .pictures import COLORS, MUTED, WIDTH, picture


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Args:
        name: What it is.
        steps: Where it was measured, ascending.
        values: What was measured; None where there was nothing.
        color: Number of its colour; curves that belong together have the same. None: grey.
        row: Of a decision that several layers make which layer, of a mean over runs which run, from 0; such lines are drawn
            faintly.
        dashed: Whether the line is dashed.
        marked: Whether its points are marked, as there are few.
        notes: For each point what it stands for, as text.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float | None]
    color: int | None = 0
    row: int | None = None
    dashed: bool = False
    marked: bool = False
    notes: Sequence[str] | None = None


@dataclass(frozen=True)
class Chart:
    """Curves that share an axis.

    Args:
        title: What is shown.
        curves: The lines, at least one.
        unit: Of the values, "" for plain numbers.
        zero: Whether the line of zero is drawn, for differences.
        shares: Whether values are in [0, 1].
        across: Name of the horizontal axis.
        faint: What a faint line is of.
    """

    title: str
    curves: Sequence[Curve]
    unit: str = ""
    zero: bool = False
    shares: bool = False
    across: str = "step"
    faint: str = "row"


def plot_charts(charts: Sequence[Chart], path: str | Path) -> None:
    """Charts as a PNG as wide as the text of a page, two in a row; nothing is written of none."""
    if not charts:
        return
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    with picture(path, (WIDTH, 2.6 * rows if columns == 2 else 3.4), rows, columns) as panels:
        for axes in panels.flat[len(charts) :]:
            axes.remove()
        for axes, chart in zip(panels.flat, charts, strict=False):
            for curve in chart.curves:
                color = MUTED if curve.color is None else COLORS[curve.color % len(COLORS)]
                style = (
                    {"color": color, "lw": 1.6} if curve.row is None else {"color": color, "lw": 0.7, "alpha": 0.45}
                )
                style |= {"ls": "--"} if curve.dashed else {}
                style |= {"marker": "o", "ms": 3} if curve.marked or len(curve.steps) == 1 else {}
                values = [float("nan") if value is None else value for value in curve.values]
                axes.plot(curve.steps, values, label=curve.name if curve.row is None else None, **style)
            if chart.zero:
                axes.axhline(0, color=MUTED, lw=0.8)
            if chart.shares:
                axes.set_ylim(-0.03, 1.03)
            axes.set(title=chart.title, xlabel=chart.across, ylabel=chart.unit)
            names = axes.get_legend_handles_labels()[1]
            if len(names) > 1:
                axes.legend(ncols=-(-len(names) // 5))
