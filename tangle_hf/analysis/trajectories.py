"""Losses and shares of a run over its steps, from the numbers in its `metrics.jsonl`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, oldest first."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def plot_losses(metrics: Sequence[Mapping], path: str | Path) -> None:
    """Losses of both levels and of the evaluated architectures (nats) over steps, as a PNG."""
    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = {"train_loss": "weights", "arch_loss": "architecture", "validation_loss": "best architecture, validation"}
    for key, label in names.items():
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if key == "validation_loss" else None, ms=3)
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
