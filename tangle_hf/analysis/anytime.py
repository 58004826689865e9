"""Any-time curves: the loss of the architecture that a search would return, against what the search has cost so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..space import Architecture
from .charts import Chart, Curve
from .pictures import COLORS, WIDTH, picture
from .trajectories import read_metrics


ACROSS = "search cost in training steps of the largest net"


@dataclass(frozen=True)
class AnytimeCurve:
    """What a search would return at any time.

    Args:
        costs: Plain-model steps so far, ascending: training steps of the largest net, or what is equally expensive.
        losses: Inherited loss (nats) of the architecture that the search would return then, on the data that it evaluates on.
        archs: These architectures, as JSON types.
    """

    costs: tuple[float, ...]
    losses: tuple[float, ...]
    archs: tuple[dict, ...]


def one_stage_curve(metrics: Sequence[Mapping]) -> AnytimeCurve:
    """The curve of a search that trains weights and architecture together: its best architecture at every evaluation.

    Args:
        metrics: Lines of `metrics.jsonl`; those with a "validation_loss" and the "search_cost" until then count.
    """
    lines = [line for line in metrics if "validation_loss" in line and "search_cost" in line]
    return AnytimeCurve(*(tuple(line[key] for line in lines) for key in ("search_cost", "validation_loss", "arch")))


def two_stage_curve(candidates: Sequence[Mapping]) -> AnytimeCurve:
    """The curve of a search over a trained supernet: the best candidate so far.

    Args:
        candidates: Lines of `candidates.jsonl` in order: "arch", its inherited "loss", and "search_cost", the plain-model
            steps up to it with those of the supernet's training.
    """
    costs, losses, archs = [], [], []
    for line in candidates:
        if not losses or line["loss"] < losses[-1]:
            costs.append(line["search_cost"])
            losses.append(line["loss"])
            archs.append(line["arch"])
    if candidates and candidates[-1]["search_cost"] > costs[-1]:
        costs.append(candidates[-1]["search_cost"])
        losses.append(losses[-1])
        archs.append(archs[-1])
    return AnytimeCurve(tuple(costs), tuple(losses), tuple(archs))


def read_curve(run_dir: str | Path) -> AnytimeCurve:
    """The curve of a run folder: of its candidates if it has a `candidates.jsonl`, else of its `metrics.jsonl`."""
    candidates = Path(run_dir) / "candidates.jsonl"
    if candidates.is_file():
        return two_stage_curve(read_metrics(candidates))
    return one_stage_curve(read_metrics(Path(run_dir) / "metrics.jsonl"))


def anytime_chart(curves: Mapping[str, Sequence[AnytimeCurve]]) -> Chart:
    """Curves of each method in one colour, with the architecture at each point."""
    found = []
    for color, (name, runs) in enumerate(curves.items()):
        for run in runs:
            notes = [str(Architecture(arch)) for arch in run.archs]
            found.append(Curve(name, run.costs, run.losses, color, marked=True, notes=notes))
    return Chart("what the search would return", found, "inherited validation loss, nats", across=ACROSS)


def plot_anytime(curves: Mapping[str, Sequence[AnytimeCurve]], path: str | Path) -> None:
    """Curves of each method in one colour, as a PNG."""
    with picture(path, (WIDTH, 3.6)) as panels:
        axes, named = panels[0, 0], set()
        for curve in anytime_chart(curves).curves:
            label = None if curve.name in named else curve.name
            color = COLORS[curve.color % len(COLORS)]
            axes.step(curve.steps, curve.values, where="post", color=color, label=label, marker="o", ms=3)
            named.add(curve.name)
        axes.set(xlabel=ACROSS, ylabel="inherited validation loss, nats")
        axes.legend()
