"""Fronts: the loss at every cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure


def plot_front(points: Sequence[Mapping], cost: str, path: str | Path) -> None:
    """Loss over cost of a front's points, as a PNG; a line joins those that no other beats.

    Args:
        points: Objects with "cost", "loss" and "nondominated", such as the points of `pareto.json`.
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
