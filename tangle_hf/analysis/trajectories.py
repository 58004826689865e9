"""Losses and shares of a run over its steps, from the numbers in its `metrics.jsonl`."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, oldest first.

    Raises:
        ValueError: There is no such file, or it is damaged or empty, as no run leaves it.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is missing; restore it")
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it") from None
    if not lines:
        raise ValueError(
            f"{path} is empty: what the run had logged is gone; restore it, or begin again in another folder"
        )
    return lines


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


def _series(metrics: Sequence[Mapping], name: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of a number, one series for each limit of a front ("" without one)."""
    keys = [key for key in dict.fromkeys(key for line in metrics for key in line) if key.split("@")[0] == name]
    return {key[len(name) :]: [(line["step"], line[key]) for line in metrics if key in line] for key in keys}
