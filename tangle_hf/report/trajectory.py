"""The parts of a report that show a search over its steps: losses, shares with the net at each step, whether it decides."""

from collections.abc import Mapping, Sequence
from html import escape

from ..analysis.pictures import COLORS, MUTED
from ..analysis.trajectories import decision_charts, details, limits_of, loss_chart, share_charts
from ..models.layer_ranks import rows_by_position
from ..space import Architecture
from .blocks import Block, Fold, Grid, Picture, Section, Words
from .figures import MOST_POINTS, Trace, chart_figure, faint, figure, on_panel, rounded, stacked, thinned
from .run_folder import RunFolder


MOST_STOPS, GAP = 60, 46  # of the slider; pixels between two maps


def loss_section(run: RunFolder) -> Section:
    """Losses, and whether the search decides."""
    charts = [loss_chart(run.metrics, run.shown), *decision_charts(run.metrics)]
    pictures = [Picture(chart_figure(chart, MOST_POINTS // 3), chart.title) for chart in charts if chart is not None]
    return Section("Losses and decisions", [Grid(pictures)] if pictures else [])


def share_section(run: RunFolder) -> Section:
    """Shares of every row: at each step with the net of that step, and as lines; of a front at each of its limits."""
    if run.space is None or not any("shares" in details(line) for line in run.metrics):
        return Section("Shares", [])
    limits = limits_of(run.metrics)
    blocks: list[Block] = []
    for anchor, limit in enumerate(limits):
        charts = share_charts(run.metrics, run.space.choices, anchor)
        lines = [
            Picture(chart_figure(chart, MOST_POINTS // (len(charts) * len(limits))), chart.title) for chart in charts
        ]
        parts: list[Block] = []
        if charts:
            parts.append(slider_picture(run, anchor))
            parts.append(Words("The same shares over the steps: bold, their mean over the layers; faint, each layer."))
            parts.append(Grid(lines))
        blocks += (
            parts if len(limits) == 1 else [Fold(f"at the limit {limit.removeprefix('@')}", parts, open=not anchor)]
        )
    return Section("Shares", blocks)


def slider_picture(run: RunFolder, anchor: int = 0) -> Picture:
    """Shares at one step as a map of rows and choices, with a slider over the steps; dots mark the net of that step."""
    lines = thinned([line for line in run.metrics if "shares" in details(line, anchor)], MOST_STOPS)
    choices = {name: values for name, values in run.space.choices.items() if len(values) > 1}
    heights = [max(44, 22 * len(values)) for values in choices.values()]
    layout, traces = stacked(list(choices), heights, GAP), []
    for number, (name, values) in enumerate(choices.items()):
        end, once = str(number + 1) if number else "", name not in run.space.per_layer
        traces += [on_panel(trace, number) for trace in _map(run, details(lines[-1], anchor), name)]
        layout[f"xaxis{end}"] |= {"type": "category", "showgrid": False, "showticklabels": not once}
        names = [str(value) for value in values]
        layout[f"yaxis{end}"] |= {
            "type": "category",
            "showgrid": False,
            "categoryorder": "array",
            "categoryarray": names,
        }
    title = {
        "text": _title(run, lines[-1], anchor),
        "font": {"size": 12},
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 6},
    }
    total = sum(heights) + GAP * (len(heights) - 1)
    margin = {"l": 55, "r": 12, "t": 84, "b": 40}
    more = {"sliders": [_slider(lines)], "title": title, "showlegend": False, "margin": margin}
    frames = [_frame(run, line, anchor, list(choices)) for line in lines]
    words = "The stronger the colour, the larger the share. Dots: the best net at that step. Move the slider."
    return Picture(figure(traces, total + 225, **layout, **more) | {"frames": frames}, caption=words)


def _slider(lines: Sequence[Mapping]) -> dict:
    how = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": str(at["step"]), "method": "animate", "args": [[str(at["step"])], how]} for at in lines]
    look = {"tickcolor": MUTED, "bordercolor": MUTED, "bgcolor": faint(MUTED, 0.3), "pad": {"t": 30}, "x": 0, "len": 1}
    return {"active": len(steps) - 1, "steps": steps, "currentvalue": {"prefix": "step "}, **look}


def _frame(run: RunFolder, line: Mapping, anchor: int, names: Sequence[str]) -> dict:
    """What changes at a step: the numbers of the maps, where the dots are, and the net in words."""
    at, data = details(line, anchor), []
    for name in names:
        x, y = _dots(run, at, name)
        data += [{"type": "heatmap", "z": _shares(at, name)}, {"type": "scatter", "x": x, "y": y}]
    return {"name": str(line["step"]), "data": data, "layout": {"title": {"text": _title(run, line, anchor)}}}


def _title(run: RunFolder, line: Mapping, anchor: int) -> str:
    """The net of a step, in at most three rows."""
    rows = [""]
    for word in str(run.shown(details(line, anchor)["arch"])).split(" "):
        if rows[-1] and len(rows[-1]) + len(word) > 60:
            rows.append("")
        rows[-1] += f" {word}"
    return "<br>".join(escape(row.strip()) for row in rows[:3])


def _map(run: RunFolder, at: Mapping, name: str) -> list[Trace]:
    """The shares of a dimension, and dots at the choices of the net."""
    x, y = _dots(run, at, name)
    heat = {
        "type": "heatmap",
        "x": _labels(run, at, name),
        "y": [str(value) for value in run.space.choices[name]],
        "z": _shares(at, name),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, faint(COLORS[1], 0.04)], [1, faint(COLORS[1], 1)]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": f"{escape(name)} %{{y}}, row %{{x}}<br>share %{{z:.3f}}<extra></extra>",
    }
    marker = {"color": COLORS[0], "size": 9, "line": {"color": "#ffffff", "width": 1}}
    return [heat, {"type": "scatter", "x": x, "y": y, "mode": "markers", "hoverinfo": "skip", "marker": marker}]


def _labels(run: RunFolder, at: Mapping, name: str) -> list[str]:
    return run.labels.get(name) or [str(row + 1) for row in range(len(at["shares"][name]))]


def _shares(at: Mapping, name: str) -> list[list[float | None]]:
    """A row for each choice, a column for each layer."""
    return [[rounded(share, 3) for share in shares] for shares in zip(*at["shares"][name], strict=True)]


def _dots(run: RunFolder, at: Mapping, name: str) -> tuple[list[str], list[str]]:
    values = Architecture(at["arch"]).values(name)
    values = rows_by_position(values, run.ranks) if name in run.space.of_layers else values
    taken = zip(_labels(run, at, name), values, strict=False)
    there = [(label, str(value)) for label, value in taken if value is not None]
    return [label for label, _ in there], [text for _, text in there]
