"""Fronts: the loss at every cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .pictures import COLORS, MUTED, WIDTH, picture


def plot_front(points: Sequence[Mapping], cost: str, path: str | Path, hand_cuts: Sequence[Mapping] = ()) -> None:
    """Loss over cost of a front's points, as a PNG; a line joins those that no other beats.

    Args:
        points: Objects with "cost", "loss" and "nondominated", such as the points of `pareto.json`.
        cost: Name of the cost.
        path: Where to write.
        hand_cuts: Nets with equal layers, as objects with "cost" and "loss".
    """
    best = sorted((point["cost"], point["loss"]) for point in points if point["nondominated"])
    with picture(path, (WIDTH, 4)) as panels:
        axes = panels[0, 0]
        axes.plot(
            [p["cost"] for p in points], [p["loss"] for p in points], "x", color=MUTED, label="best at each budget"
        )
        axes.step(*zip(*best, strict=True), where="post", marker="o", ms=4, color=COLORS[0], label="not dominated")
        for cut in hand_cuts:
            axes.plot(
                cut["cost"], cut["loss"], "s", ms=4, color=COLORS[1], label="hand cut" if cut is hand_cuts[0] else None
            )
        axes.set(xlabel=cost, ylabel="inherited loss in nats")
        axes.legend()
