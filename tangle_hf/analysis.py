"""Pictures and tables of a run, from the numbers in its `metrics.jsonl`."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure
import matplotlib.ticker

from .space import Architecture, SearchSpace


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, oldest first."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def plot_losses(metrics: Sequence[Mapping], path: str | Path) -> None:
    """Losses of both levels and of the evaluated architectures (nats) over steps, as a PNG."""
    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = {"train_loss": "weights", "arch_loss": "architecture", "validation_loss": "best architecture, validation"}
    for name, label in names.items():
        for limit, points in _series(metrics, name).items():
            marker = "o" if name == "validation_loss" else None
            axes.plot(*zip(*points, strict=True), label=f"{label} {limit}".strip(), marker=marker, ms=3)
    axes.set(xlabel="step", ylabel="loss in nats")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_shares(metrics: Sequence[Mapping], choices: Mapping[str, Sequence], path: str | Path) -> None:
    """Shares of every choice over steps, as a PNG: a panel per dimension, a line per choice, faint lines per layer."""
    figure = matplotlib.figure.Figure(figsize=(3.2 * len(choices), 3), layout="constrained")
    panels = figure.subplots(1, len(choices), squeeze=False)[0]
    steps = [line["step"] for line in metrics]
    for axes, (name, values) in zip(panels, choices.items(), strict=True):
        for k, value in enumerate(values):
            rows = [[row[k] for row in line["shares"][name]] for line in metrics]
            color = f"C{k}"
            if len(rows[0]) > 1:
                axes.plot(steps, rows, color=color, alpha=0.3, lw=0.8)
            axes.plot(steps, [sum(row) / len(row) for row in rows], color=color, label=str(value))
        axes.set(title=name, xlabel="step", ylim=(0, 1))
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("share")
    figure.savefig(path, dpi=150)


def plot_diagnostics(metrics: Sequence[Mapping], path: str | Path) -> None:
    """Whether a search decides, as a PNG of four panels over steps.

    Entropy of the rows relative to uniform (faint: each row); loss of the mixture minus loss of the discretised net in nats;
    steps since the best architecture changed; expected and discretised cost as a share of each budget.
    """
    figure = matplotlib.figure.Figure(figsize=(13, 3.2), layout="constrained")
    entropy, gap, stability, budget = figure.subplots(1, 4)
    steps = [line["step"] for line in metrics]
    for name, rows in metrics[0].get("entropies", {}).items():
        for row in range(len(rows)):
            entropy.plot(steps, [line["entropies"][name][row] for line in metrics], color="gray", alpha=0.3, lw=0.8)
    panels = [(entropy, "entropy"), (gap, "discretisation_gap"), (stability, "arch_unchanged_steps")]
    for axes, name in panels:
        for limit, points in _series(metrics, name).items():
            axes.plot(*zip(*points, strict=True), label=limit or None)
    colors = (f"C{number}" for number in itertools.count())
    for cost in sorted({key.split("@")[0].removeprefix("max_") for key in metrics[0] if key.startswith("max_")}):
        for limit, points in _series(metrics, f"max_{cost}").items():
            color, most = next(colors), points[0][1]
            for kind, style, name in (("expected", "-", "expected"), ("arch", ":", "discretised")):
                shares = [line[f"{kind}_{cost}{limit}"] / most for line in metrics]
                budget.plot(steps, shares, style, color=color, label=f"{cost}{limit}, {name}")
    gap.axhline(0, color="gray", lw=0.8)
    titles = ["entropy, 1 = uniform", "mixture - discretised, nats", "steps unchanged", "share of the budget"]
    for axes, title in zip((entropy, gap, stability, budget), titles, strict=True):
        axes.set(title=title, xlabel="step")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize="x-small")
    figure.savefig(path, dpi=150)


def plot_front(points: Sequence[Mapping], cost: str, path: str | Path) -> None:
    """Loss over cost of a front's points, as a PNG; a line joins those that no other beats.

    Args:
        points: As in `pareto.json`.
        cost: Name of the cost.
        path: Where to write.
    """
    figure = matplotlib.figure.Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    best = sorted((point["cost"], point["loss"]) for point in points if point["nondominated"])
    axes.plot([p["cost"] for p in points], [p["loss"] for p in points], "x", color="gray", label="best at each budget")
    axes.step(*zip(*best, strict=True), where="post", marker="o", ms=4, label="not dominated")
    axes.set(xlabel=cost, ylabel="inherited loss in nats")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _series(metrics: Sequence[Mapping], name: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of a number, one series for each limit of a front ("" without one)."""
    keys = [key for key in dict.fromkeys(key for line in metrics for key in line) if key.split("@")[0] == name]
    return {key[len(name) :]: [(line["step"], line[key]) for line in metrics if key in line] for key in keys}


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
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.savefig(path, dpi=150)


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
