"""Any-time curves: the score of the architecture that a search would return, against what the search has cost so far."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

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
        values: Score of the architecture that the search would return then: the loss (nats) that it inherits, on the data that
            the search evaluates on unless said otherwise, or what a table of trained nets has.
        archs: These architectures, as JSON types.
    """

    costs: tuple[float, ...]
    values: tuple[float, ...]
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


def curves_of(numbers: Mapping[str, Sequence[Mapping]], key: str) -> dict[str, list[AnytimeCurve]]:
    """Method -> the curves of its runs that have all scores of a kind, of the content of a comparison's `anytime.json`.

    Args:
        numbers: Method -> for each run "costs", "archs", and lists of scores, some of them None where there is none.
        key: Which scores.
    """
    found = {
        method: [
            AnytimeCurve(*map(tuple, (run["costs"], run[key], run["archs"])))
            for run in runs
            if None not in run.get(key, [None])
        ]
        for method, runs in numbers.items()
    }
    return {method: curves for method, curves in found.items() if curves}


def mean_curve(curves: Sequence[AnytimeCurve]) -> tuple[list[float], list[float]]:
    """Costs and the mean of the values there, from where all curves have begun; the last value of each stays.

    Args:
        curves: At least one, each with at least one point.
    """
    begun = max(curve.costs[0] for curve in curves)
    costs = sorted({cost for curve in curves for cost in curve.costs if cost >= begun})
    return costs, [mean(curve.values[bisect(curve.costs, cost) - 1] for curve in curves) for cost in costs]


def anytime_chart(curves: Mapping[str, Sequence[AnytimeCurve]]) -> Chart:
    """Curves of each method in one colour, with the architecture at each point."""
    found = []
    for color, (name, runs) in enumerate(curves.items()):
        for run in runs:
            notes = [str(Architecture(arch)) for arch in run.archs]
            found.append(Curve(name, run.costs, run.values, color, marked=True, notes=notes))
    return Chart("what the search would return", found, "inherited validation loss, nats", across=ACROSS)


def looked_up_chart(curves: Mapping[str, Sequence[AnytimeCurve]], metric: str) -> Chart:
    """Scores in a table of trained nets: for each method the mean of its runs, and faintly each of several.

    Args:
        curves: Method -> at least one curve.
        metric: Name of the scores.
    """
    found = []
    for color, (name, runs) in enumerate(curves.items()):
        if len(runs) > 1:
            found += [Curve(name, run.costs, run.values, color, row=number) for number, run in enumerate(runs)]
        found.append(Curve(name, *mean_curve(runs), color))
    return Chart(
        "what the search would return, in the table of trained nets", found, metric, across=ACROSS, faint="run"
    )


def plot_anytime(chart: Chart, path: str | Path) -> None:
    """Curves that keep their value until the next point, as a PNG."""
    with picture(path, (WIDTH, 3.6)) as panels:
        axes, named = panels[0, 0], set()
        for curve in chart.curves:
            bold = curve.row is None
            style = {
                "color": COLORS[curve.color % len(COLORS)],
                "lw": 1.6 if bold else 0.7,
                "alpha": 1 if bold else 0.35,
            }
            style |= {"marker": "o", "ms": 3} if curve.marked else {}
            label = curve.name if bold and curve.name not in named else None
            axes.step(curve.steps, curve.values, where="post", label=label, **style)
            named |= {curve.name} if bold else set()
        axes.set(xlabel=ACROSS, ylabel=chart.unit)
        axes.legend()
