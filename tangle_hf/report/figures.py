"""Figures of the page: the data of `tangle_hf.analysis` as plotly draws them. Colours of text are the page's (CSS).

A figure is plotly's own JSON, a dict with "data" and "layout". Its Python classes would check every number of it for seconds,
at each checkpoint of a search; tests have them check whole pages instead.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from ..analysis.charts import Chart, Curve
from ..analysis.pictures import COLORS, MUTED
from ..space import Architecture


MOST_POINTS = 30_000  # of all faint lines of a part of the page together; more would make it large and slow
MOST_STEPS = 1000  # of any other line

Figure = dict[str, Any]
Trace = dict[str, Any]


def figure(traces: Sequence[Trace], height: int, across: str = "", up: str = "", **layout: Any) -> Figure:
    """A figure in the look of the page.

    Args:
        traces: What is drawn.
        height: Pixels; as wide as its place.
        across: Title of the horizontal axis.
        up: Title of the vertical axis.
        **layout: More of plotly's layout.
    """
    clear = "rgba(0,0,0,0)"
    common = {
        "height": height,
        "margin": {"l": 55, "r": 12, "t": 12, "b": 45},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"size": 12},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "hoverlabel": {"align": "left", "namelength": -1},
        "hovermode": "closest",
        "xaxis": axis(title={"text": across}),
        "yaxis": axis(title={"text": up}),
    }
    return {"data": list(traces), "layout": common | layout}


def axis(**properties: Any) -> dict[str, Any]:
    """An axis in the look of the page."""
    return {"automargin": True, "zeroline": False, **properties}


def stacked(titles: Sequence[str], heights: Sequence[int], gap: int) -> dict[str, Any]:
    """The layout of panels below each other: places of their axes, "xaxis" and "yaxis", "xaxis2" and so on, and their titles.

    Args:
        titles: Above each panel.
        heights: Of each panel, in pixels.
        gap: Between two panels, in pixels.
    """
    total, top, layout = sum(heights) + gap * (len(heights) - 1), 0, {"annotations": []}
    for number, (title, height) in enumerate(zip(titles, heights, strict=True)):
        end = str(number + 1) if number else ""
        low, high = 1 - (top + height) / total, 1 - top / total
        layout[f"xaxis{end}"] = axis(anchor=f"y{end}", fixedrange=True)
        layout[f"yaxis{end}"] = axis(anchor=f"x{end}", fixedrange=True, domain=[max(0, low), high])
        look = {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
        layout["annotations"].append({"text": f"<b>{escape(title)}</b>", "y": high, "font": {"size": 13}, **look})
        top += height + gap
    return layout


def on_panel(trace: Trace, number: int) -> Trace:
    """A trace that is drawn on one of the panels, counted from 0."""
    end = str(number + 1) if number else ""
    return {**trace, "xaxis": f"x{end}", "yaxis": f"y{end}"}


def color(number: int) -> str:
    """A colour of the page's eight, again and again."""
    return COLORS[number % len(COLORS)]


def faint(color: str, opacity: float = 0.35) -> str:
    """A colour that lets the page through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def chart_figure(chart: Chart, most_points: int = MOST_POINTS) -> Figure:
    """A chart: bold lines for what is named, faint ones for the rows of a dimension.

    Args:
        chart: What to draw.
        most_points: Points of its faint lines together; of more steps only some are drawn, the last among them.
    """
    groups: dict[tuple, list[Curve]] = {}
    for curve in chart.curves:
        if curve.row is not None:
            groups.setdefault((curve.color, curve.name), []).append(curve)
    most = min(MOST_STEPS, max(2, most_points // max(1, sum(map(len, groups.values())))))
    traces = [_rows(*group, curves, most, chart) for group, curves in groups.items()]
    bold, named = [curve for curve in chart.curves if curve.row is None], set()
    for curve in bold:
        traces.append(_bold(curve, chart, len(bold) > 1 and curve.name not in named))
        named.add(curve.name)
    found = figure(traces, 300, chart.across, chart.unit)
    if chart.shares:
        found["layout"]["yaxis"]["range"] = [-0.03, 1.03]
    if chart.zero:
        found["layout"]["yaxis"] |= {"zeroline": True, "zerolinecolor": MUTED}
    return found


def _bold(curve: Curve, chart: Chart, in_legend: bool) -> Trace:
    points = thinned(range(len(curve.steps)), MOST_STEPS)
    few = curve.marked or len(points) == 1
    tint, name = MUTED if curve.color is None else color(curve.color), escape(curve.name)
    notes = "" if curve.notes is None else "<br>%{customdata}"
    trace = {
        "type": "scatter",
        "x": [curve.steps[n] for n in points],
        "y": [rounded(curve.values[n]) for n in points],
        "name": name,
        "mode": "lines+markers" if few else "lines",
        "line": {"color": tint, "width": 2.5, "dash": "dash" if curve.dashed else "solid"},
        "legendgroup": name,
        "showlegend": in_legend,
        "hovertemplate": f"{name}<br>{chart.across} %{{x}}: %{{y:.4g}} {chart.unit}{notes}<extra></extra>",
    }
    return trace | ({"customdata": [escape(curve.notes[n]) for n in points]} if notes else {})


def _rows(number: int | None, name: str, curves: Sequence[Curve], most: int, chart: Chart) -> Trace:
    """All faint lines of one colour and name as one trace, with a gap between two: many traces would be slow."""
    x, y, at = [], [], []
    for curve in curves:
        points = thinned(range(len(curve.steps)), most)
        x += [curve.steps[n] for n in points] + [None]
        y += [rounded(curve.values[n]) for n in points] + [None]
        at += [curve.row + 1] * len(points) + [None]
    name = escape(name)
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "customdata": at,
        "mode": "lines",
        "line": {"color": faint(MUTED if number is None else color(number)), "width": 1},
        "legendgroup": name,
        "showlegend": False,
        "hovertemplate": f"{name}, {chart.faint} %{{customdata}}<br>{chart.across} %{{x}}: %{{y:.3f}}<extra></extra>",
    }


def thinned(items: Sequence, most: int) -> list:
    """At most so many of some items, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def rounded(value: float | None, digits: int = 5) -> float | None:
    """A number with so many digits, as a page needs no more."""
    return None if value is None else float(f"{value:.{digits}g}")


def lines_of(arch: Architecture) -> str:
    """An architecture for a hover text: a dimension a line."""
    return "<br>".join(escape(word) for word in str(arch).split(" "))
