"""Nets as drawings: what is chosen once, and a bar for each layer (arXiv:2312.10440, figure 5).

`drawing` has the numbers; the pictures of cards and the report in a browser show the same ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..space import Architecture, Choice, SearchSpace
from .pictures import COLORS, MUTED, WIDTH, picture


RATIO, WIDTHS = "mlp_ratio", ("n_embd", "hidden_size")  # hidden units = ratio * width


@dataclass(frozen=True)
class Panel:
    """One dimension of some nets.

    Args:
        name: The dimension.
        title: What its bars show, with the unit.
        labels: Of the bars: layers, stages, edges of a cell, or the dimensions of the whole net.
        ticks: Heights and what they stand for, of every choice of the largest width.
        bars: Net -> height of each bar; None where the net has no such layer.
        words: Net -> what stands at each bar.
        along: What the bars are: "layer", "stage" or "edge"; "" for the whole net, whose bars are shares of the largest choice.
    """

    name: str
    title: str
    labels: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    bars: Mapping[str, Sequence[float | None]]
    words: Mapping[str, Sequence[str]]
    along: str


def drawing(
    archs: Mapping[str, Architecture],
    space: SearchSpace,
    labels: Mapping[str, Sequence[str]] | None = None,
    ranks: Sequence[int] | None = None,
) -> list[Panel]:
    """What is to be drawn of some nets: a panel of the whole net's choices, then one for each dimension of the layers.

    A bar is as high as its value; an MLP ratio is drawn as hidden units, ratio * width, so that nets of different widths
    compare. Choices that are names stand in their order, from 1. A dimension without a choice is left out.

    Args:
        archs: Name -> architecture.
        space: Their space.
        labels: Dimension -> names of its rows, where they have other names than numbers, such as edges of a cell.
        ranks: Of the layers in order of position, in which they are drawn; None: the first are kept first.
    """
    searched = [name for name, choices in space.choices.items() if len(choices) > 1 or name in space.per_layer]
    whole = [name for name in searched if name not in space.per_layer]
    panels = [_whole_net(archs, space, whole)] if whole else []
    return panels + [
        _layers(archs, space, name, (labels or {}).get(name), ranks) for name in searched if name in space.per_layer
    ]


def plot_architectures(archs: Mapping[str, Architecture], space: SearchSpace, path: str | Path) -> None:
    """Several architectures beside each other, as a PNG: a panel for each dimension, a colour for each net.

    Args:
        archs: Name -> architecture.
        space: Their space.
        path: Where to write.
    """
    panels = drawing(archs, space)
    if not panels:
        return
    heights = [
        max(0.5, 0.3 * len(panel.labels) * max(1, len(archs) / 2)) if not panel.along else 1.6 for panel in panels
    ]
    size = (WIDTH, sum(heights) + 0.45 * len(panels) + 0.18 * len(archs) * (len(archs) > 1))
    with picture(path, size, len(panels), height_ratios=heights) as grid:
        for axes, panel in zip(grid[:, 0], panels, strict=True):
            (_draw_layers if panel.along else _draw_whole_net)(axes, panel)
        if len(archs) > 1:
            handles, names = grid[0, 0].get_legend_handles_labels()
            grid[0, 0].figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))


def plot_architecture(arch: Architecture, space: SearchSpace, path: str | Path) -> None:
    """One architecture beside the largest choices, as a PNG: a panel for each dimension.

    Args:
        arch: The architecture.
        space: Its space.
        path: Where to write.
    """
    largest = {"largest": space.largest} if space.ordered else {}
    plot_architectures({**largest, "found": arch}, space, path)


def _whole_net(archs: Mapping[str, Architecture], space: SearchSpace, names: Sequence[str]) -> Panel:
    def share(name: str, value: Choice) -> float:
        choices = space.choices[name]
        return (choices.index(value) + 1) / len(choices) if isinstance(value, str) else value / choices[-1]

    bars = {net: [share(name, getattr(arch, name)) for name in names] for net, arch in archs.items()}
    words = {net: [str(getattr(arch, name)) for name in names] for net, arch in archs.items()}
    ticks = [(0.0, "0"), (0.5, "half"), (1.0, "largest choice")]
    return Panel("whole net", "whole net", names, ticks, bars, words, "")


def _layers(
    archs: Mapping[str, Architecture],
    space: SearchSpace,
    name: str,
    labels: Sequence[str] | None,
    ranks: Sequence[int] | None,
) -> Panel:
    choices, rows = space.choices[name], space.rows(name)
    width = next((w for w in WIDTHS if w in space.choices and w not in space.per_layer), None)
    width = width if name == RATIO else None
    stages = space.stages > 1 and name != space.depth_name
    along = "stage" if name == space.depth_name else "edge" if labels else "layer"

    def height(arch: Architecture, value: Choice | None) -> float | None:
        if value is None or isinstance(value, str):
            return None if value is None else choices.index(value) + 1
        return value * (getattr(arch, width) if width else 1)

    bars, words = {}, {}
    for net, arch in archs.items():
        values = [*arch.values(name), *[None] * rows][:rows]
        values = values if ranks is None else [values[rank] for rank in ranks]
        bars[net] = [height(arch, value) for value in values]
        words[net] = ["" if value is None else str(value) for value in values]
    largest = space.choices[width][-1] if width else 1
    named = isinstance(choices[0], str)
    ticks = [(k if named else choice * largest, str(choice)) for k, choice in enumerate(choices, 1)]
    ticks = [(at, f"{at:g}") for at, _ in ticks] if width else ticks
    title = f"MLP width, {name} x {width}" if width else name
    numbers = [
        f"{row // space.max_depth + 1}.{row % space.max_depth + 1}" if stages else str(row + 1) for row in range(rows)
    ]
    return Panel(name, title, labels or numbers, ticks, bars, words, along)


def _color(number: int, name: str) -> str:
    return MUTED if name == "largest" else COLORS[number % len(COLORS)]


def _draw_whole_net(axes, panel: Panel) -> None:
    """Horizontal bars, one for each dimension and net."""
    thick = 0.8 / len(panel.bars)
    own = [name for name in panel.bars if name != "largest"]
    for number, (net, bars) in enumerate(panel.bars.items()):
        at = [row + (number - (len(panel.bars) - 1) / 2) * thick for row in range(len(bars))]
        color = _color(own.index(net) if net in own else 0, net)
        drawn = axes.barh(at, bars, thick * 0.9, color=color, alpha=0.4 if net == "largest" else 1, label=net)
        axes.bar_label(drawn, panel.words[net], padding=3, fontsize=8)
    axes.set_yticks(range(len(panel.labels)), panel.labels)
    axes.set(xlim=(0, 1.15), xticks=[], title=panel.title)
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)


def _draw_layers(axes, panel: Panel) -> None:
    """A bar for each layer; the largest net is the pale ground, names of operations are squares."""
    own = [name for name in panel.bars if name != "largest"]
    thick, top = 0.8 / max(1, len(own)), max(at for at, _ in panel.ticks)
    named = any(not text.replace(".", "").isdigit() for _, text in panel.ticks)
    for net, bars in panel.bars.items():
        number = own.index(net) if net in own else 0
        shift = 0 if net == "largest" else (number - (len(own) - 1) / 2) * thick
        at = [(row + shift, height) for row, height in enumerate(bars) if height is not None]
        if named:
            axes.plot(*zip(*at, strict=True), "s", ms=7, color=_color(number, net), label=net)
            continue
        wide = 0.9 if net == "largest" else thick * 0.85
        alpha = 0.25 if net == "largest" else 1
        drawn = axes.bar(*zip(*at, strict=True), wide, color=_color(number, net), alpha=alpha, label=net)
        if len(own) == 1 and net != "largest" and len(bars) <= 24:
            axes.bar_label(drawn, [word for word in panel.words[net] if word], fontsize=8, padding=1)
    axes.set_yticks([at for at, _ in panel.ticks], [text for _, text in panel.ticks])
    axes.set_xticks(range(len(panel.labels)), panel.labels, fontsize=8 if len(panel.labels) <= 16 else 6)
    axes.set(ylim=(0, 1.12 * top) if not named else (0.5, top + 0.5), xlim=(-0.6, len(panel.labels) - 0.4))
    axes.set(title=panel.title, xlabel=panel.along)
    axes.grid(named, axis="x")
