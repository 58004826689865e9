"""The part of a report that shows nets of many sizes: a front, or the candidates of a search of two stages."""

import shlex
from collections.abc import Sequence
from html import escape

from ..analysis.pictures import COLORS, MUTED
from ..space import Architecture
from .blocks import Picture, Section, Table
from .figures import Figure, Trace, faint, figure, lines_of, rounded, thinned
from .run_folder import RunFolder


MOST_CANDIDATES = 2000


def front_section(run: RunFolder) -> Section:
    """A point for each net of the front, with its architecture and the command that exports it."""
    if not run.front:
        return Section("Front", [])
    words = (
        "Each point is the best net within its budget; pale ones are beaten by another. Point at one for its layers and the "
        "command that exports it."
    )
    if run.front.get("hand_cuts"):
        words += " Squares: nets with equal layers, as a person would cut them, with the same weights."
    rows = []
    for number, point in enumerate(run.front["points"]):
        numbers = {name: value for name, value in point.items() if name not in ("nondominated", "arch")}
        numbers |= {"beaten": "" if point["nondominated"] else "yes", "architecture": str(run.shown(point["arch"]))}
        rows.append({"point": number, **numbers, "export": export_command(run, number)})
    return Section("Front", [Picture(front_figure(run), caption=words), Table(rows)])


def export_command(run: RunFolder, number: int) -> str:
    """What writes a net of the front as a model."""
    return f"tangle-hf export {shlex.quote(str(run.folder))} --point {number}"


def front_figure(run: RunFolder) -> Figure:
    """Inherited loss over cost."""
    front = run.front
    points = [
        (point["cost"], point["loss"], point["nondominated"],
         f"point {number}<br>{lines_of(run.shown(point['arch']))}<br>{escape(export_command(run, number))}")
        for number, point in enumerate(front["points"])
    ]  # fmt: skip
    best = sorted(point for point in points if point[2])
    traces = [
        _points("beaten by another", [point for point in points if not point[2]], "circle", faint(COLORS[0], 0.35)),
        _points("front", best, "circle", COLORS[0], line=True),
    ]
    cuts = [
        (c["cost"], c["loss"], False, f"hand cut<br>{lines_of(run.shown(c['arch']))}")
        for c in front.get("hand_cuts", ())
    ]
    traces.append(_points("hand cuts", cuts, "square", COLORS[1]))
    return figure(
        [trace for trace in traces if trace is not None],
        420,
        escape(front["cost"]),
        "inherited loss, nats",
    )


def candidate_section(run: RunFolder) -> Section:
    """All candidates of the second stage, by cost and inherited loss, and the front among them where one was looked for."""
    if not run.candidates:
        return Section("Candidates", [])
    cost = next((name for name in _costs(run) if name in run.candidates[0]), None)
    if cost is None:
        return Section("Candidates", [])
    words = f"{len(run.candidates):,} candidates; point at one for its layers."
    return Section("Candidates", [Picture(candidate_figure(run, cost), caption=words)])


def _costs(run: RunFolder) -> Sequence[str]:
    limited = [key.removeprefix("max_") for key in run.results.get("budgets", {}) if key.startswith("max_")]
    return [run.settings.get("nsga2_cost", "params"), *limited, "params", "parameters", "flops"]


def candidate_figure(run: RunFolder, cost: str) -> Figure:
    """Inherited loss over cost; the one that was taken, and a front, stand out."""
    shown = thinned(run.candidates, MOST_CANDIDATES)
    traces = [
        _points("candidates", [(c[cost], rounded(c["loss"]), False, lines_of(run.shown(c["arch"]))) for c in shown],
                "circle", faint(MUTED, 0.5), size=6)
    ]  # fmt: skip
    if front := run.results.get("front"):
        best = sorted(
            (c[cost], c["loss"], True, lines_of(run.shown(c["arch"]))) for c in front if "arch" in c and cost in c
        )
        traces.append(_points("front", best, "circle", COLORS[0], line=True))
    taken = [c for c in run.candidates if run.arch is not None and Architecture(c["arch"]) == run.arch]
    traces.append(
        _points(
            "found",
            [(c[cost], c["loss"], True, lines_of(run.shown(c["arch"]))) for c in taken[:1]],
            "star",
            COLORS[0],
            size=14,
        )
    )
    return figure(
        [trace for trace in traces if trace is not None],
        380,
        escape(cost),
        "inherited loss, nats",
    )


def _points(
    name: str,
    points: Sequence[tuple[float, float, bool, str]],
    symbol: str,
    tint: str,
    size: int = 10,
    line: bool = False,
) -> Trace | None:
    """Nets as marks; None if there are none."""
    if not points:
        return None
    return {
        "type": "scatter",
        "x": [point[0] for point in points],
        "y": [point[1] for point in points],
        "mode": "lines+markers" if line else "markers",
        "line": {"shape": "hv", "width": 1.5, "color": tint},
        "marker": {"symbol": symbol, "size": size, "color": tint},
        "name": escape(name),
        "customdata": [point[3] for point in points],
        "hovertemplate": "%{customdata}<br>cost %{x:,}, loss %{y:.4f}<extra></extra>",
    }
