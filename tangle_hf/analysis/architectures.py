"""Architectures as pictures: the values of every layer, one panel per dimension (arXiv:2312.10440, figure 5)."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.figure
from matplotlib.ticker import MaxNLocator

from ..space import Architecture, SearchSpace


def plot_architectures(archs: Mapping[str, Architecture], space: SearchSpace, path: str | Path) -> None:
    """Per-layer values of several architectures as a PNG, a line for each; values of the whole net are in the legend.

    Args:
        archs: Name -> architecture.
        space: Their space.
        path: Where to write.
    """
    per_layer = [name for name in space.choices if name in space.per_layer]
    shared = [name for name in space.choices if name not in space.per_layer]
    figure = matplotlib.figure.Figure(figsize=(4 * max(1, len(per_layer)) + 2, 3.2), layout="constrained")
    panels = figure.subplots(1, max(1, len(per_layer)), squeeze=False)[0]
    for number, (name, arch) in enumerate(archs.items()):
        label = " ".join([f"{name}:", *(f"{dimension}={getattr(arch, dimension)}" for dimension in shared)])
        shift = 0.04 * (number - (len(archs) - 1) / 2)  # equal lines stay visible
        for axes, dimension in zip(panels, per_layer, strict=False):
            choices = space.choices[dimension]  # which may be names; a layer that is not there has None
            values = [(n, choices.index(v)) for n, v in enumerate(getattr(arch, dimension), 1) if v is not None]
            axes.plot(
                [n + shift for n, _ in values],
                [v for _, v in values],
                marker="o",
                ms=4,
                color=f"C{number % 10}",
                label=label,
            )
        if not per_layer:
            panels[0].plot([], [], color=f"C{number % 10}", label=label)
    for axes, dimension in zip(panels, per_layer, strict=False):
        axes.set(title=dimension, xlabel="layer")
        axes.set_yticks(range(len(space.choices[dimension])), [str(choice) for choice in space.choices[dimension]])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def plot_architecture(arch: Architecture, space: SearchSpace, path: str | Path) -> None:
    """An architecture among its choices, as a PNG: a panel per dimension, a grey line per choice.

    What every layer chooses for itself is a bar per layer; layers that the architecture does not have stay empty. Choices
    that are names stand in their order.

    Args:
        arch: The architecture.
        space: Its space.
        path: Where to write.
    """
    names = sorted(space.choices, key=lambda name: name in space.per_layer)
    widths = [3 + space.rows(name) for name in names]
    figure = matplotlib.figure.Figure(figsize=(0.4 * sum(widths), 3), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, width_ratios=widths)[0]
    for axes, name in zip(panels, names, strict=True):
        choices, value = space.choices[name], getattr(arch, name)
        values = value if isinstance(value, tuple) else (value,)
        heights = range(1, len(choices) + 1) if isinstance(choices[0], str) else choices
        height = dict(zip(choices, heights, strict=True))
        for line in heights:
            axes.axhline(line, color="0.85", lw=0.8, zorder=0)
        bars = {row: value for row, value in enumerate(values, 1) if value is not None}
        drawn = axes.bar(bars.keys(), [height[value] for value in bars.values()], color="C0", width=0.7)
        if len(bars) <= 16:
            axes.bar_label(drawn, [str(value) for value in bars.values()], fontsize="small")
        axes.set(title=name, ylim=(0, 1.15 * heights[-1]), xlim=(0.4, space.rows(name) + 0.6))
        axes.set_yticks(heights, [str(choice) for choice in choices])
        axes.set_xticks([])
        if name in space.per_layer:
            axes.set_xlabel("stage" if name == space.depth_name else "layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.savefig(path, dpi=150)
