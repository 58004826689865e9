"""Drawings of nets: bars for what was found, a pale ground for the largest net, marks for what it is compared with."""

from collections.abc import Collection, Mapping, Sequence
from html import escape

from ..analysis.drawings import Panel, drawing
from ..analysis.pictures import COLORS, MUTED
from ..space import Architecture, SearchSpace
from .figures import Figure, Trace, color, faint, figure, on_panel, stacked


FOUND, LARGEST = "found", "largest"
PANEL, ROW, GAP = 150, 34, 62  # pixels: a panel of layers, a bar of the whole net, between two panels


def net_figure(
    archs: Mapping[str, Architecture],
    space: SearchSpace,
    labels: Mapping[str, Sequence[str]],
    hidden: Collection[str] = (),
    ranks: Sequence[int] | None = None,
) -> Figure | None:
    """Nets layer by layer; None where nothing is searched.

    Args:
        archs: Name -> architecture. `LARGEST` is the ground; `FOUND` is drawn as bars and others as marks or, without `FOUND`,
            all as bars side by side.
        space: Their space.
        labels: Dimension -> names of its rows, where they are no numbers.
        hidden: Nets that the legend shows on request only.
        ranks: Of the layers in order of position, None where they are not ranked.
    """
    panels = drawing(archs, space, labels, ranks)
    if not panels:
        return None
    heights = [_height(panel) for panel in panels]
    layout = stacked([panel.title for panel in panels], heights, GAP)
    others, traces = [net for net in archs if net not in (FOUND, LARGEST)], []
    if FOUND in archs:
        bars = {FOUND: (-0.3, 0.6), LARGEST: (-0.45, 0.9)}
    else:
        wide = 0.8 / max(1, len(others))
        bars = {LARGEST: (-0.45, 0.9)} | {net: (k * wide - 0.4, 0.9 * wide) for k, net in enumerate(others)}
    for number, panel in enumerate(panels):
        for net in archs:
            tint = (
                COLORS[0] if net == FOUND else MUTED if net == LARGEST else color((FOUND in archs) + others.index(net))
            )
            trace = (_layer if panel.along else _whole)(panel, net, tint, bars.get(net))
            shown = {"visible": "legendonly" if net in hidden else True, "showlegend": not number and len(archs) > 1}
            traces.append(on_panel({**trace, "name": escape(net), "legendgroup": escape(net), **shown}, number))
        _set_axes(layout, panel, str(number + 1) if number else "")
    total = sum(heights) + GAP * (len(panels) - 1)
    legend = {"orientation": "h", "x": 0, "y": 1 + 30 / total, "xanchor": "left", "yanchor": "bottom"}
    margin = {"l": 55, "r": 12, "t": 70, "b": 45}
    return figure(traces, total + 115, barmode="overlay", legend=legend, margin=margin, **layout)


def _height(panel: Panel) -> int:
    if not panel.along:
        return ROW * len(panel.labels)
    return max(PANEL, 22 * len(panel.ticks)) if _named(panel) else PANEL


def _named(panel: Panel) -> bool:
    """Whether the choices are names, as those of operations."""
    return not all(text.replace(".", "").isdigit() for _, text in panel.ticks)


def _whole(panel: Panel, net: str, tint: str, bar: tuple[float, float] | None) -> Trace:
    """Shares of the largest choices: a bar (where it begins, how thick it is), or a mark."""
    heights, words = panel.bars[net], panel.words[net]
    hover = [f"{escape(net)}<br>{escape(name)}: {word}" for name, word in zip(panel.labels, words, strict=True)]
    common = {"x": list(heights), "y": list(panel.labels), "hovertext": hover, "hoverinfo": "text"}
    if bar is None:
        marks = {"symbol": "line-ns", "size": 22, "line": {"color": tint, "width": 4}}
        return {"type": "scatter", **common, "mode": "markers", "marker": marks}
    return _bar(common, words, net, tint, bar) | {"orientation": "h"}


def _layer(panel: Panel, net: str, tint: str, bar: tuple[float, float] | None) -> Trace:
    """A bar (where it begins, how thick it is) or a mark for each layer; nothing where the net has none."""
    there = [(label, height, word) for label, height, word in
             zip(panel.labels, panel.bars[net], panel.words[net], strict=True) if height is not None]  # fmt: skip
    units = panel.title != panel.name  # a ratio, drawn as units
    hover = [
        f"{escape(net)}, {panel.along} {escape(label)}<br>{escape(panel.name)}: {escape(word)}"
        + (f" ({height:g} units)" if units else "")
        for label, height, word in there
    ]
    common = {"x": [label for label, *_ in there], "y": [height for _, height, _ in there]}
    common |= {"hovertext": hover, "hoverinfo": "text"}
    if _named(panel):
        marks = {"symbol": "square", "size": 13, "color": tint}
        return {"type": "scatter", **common, "mode": "markers", "marker": marks}
    if bar is None:
        marks = {"symbol": "line-ew", "size": 18, "line": {"color": tint, "width": 4}}
        line = {"width": 1, "dash": "dot", "color": tint}
        return {"type": "scatter", **common, "mode": "lines+markers", "line": line, "marker": marks}
    return _bar(common, [word for *_, word in there], net, tint, bar)


def _bar(common: Trace, words: Sequence[str], net: str, tint: str, bar: tuple[float, float]) -> Trace:
    fill = faint(tint, 0.25) if net == LARGEST else tint
    found = {"type": "bar", **common, "offset": bar[0], "width": bar[1], "marker": {"color": fill}}
    if net != FOUND:
        return found
    return found | {"text": list(words), "textposition": "outside", "cliponaxis": False}


def _set_axes(layout: Figure, panel: Panel, end: str) -> None:
    x, y = layout[f"xaxis{end}"], layout[f"yaxis{end}"]
    if not panel.along:
        x |= {"range": [0, 1.12], "showticklabels": False, "showgrid": False}
        y |= {"autorange": "reversed", "showgrid": False, "type": "category"}
        return
    labels, at = list(panel.labels), [height for height, _ in panel.ticks]
    x |= {"type": "category", "categoryorder": "array", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
    x |= {"title": {"text": panel.along, "standoff": 4}, "showgrid": _named(panel)}
    y |= {"tickvals": at, "ticktext": [escape(text) for _, text in panel.ticks]}
    y |= {"range": [0.5, len(at) + 0.5] if _named(panel) else [0, 1.16 * max(at)]}
