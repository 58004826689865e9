"""What a run did over its steps, from the numbers in its `metrics.jsonl`: losses, shares, and whether it decides."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..space import Architecture
from .charts import Chart, Curve, plot_charts


LOSSES = {"train_loss": "weights", "arch_loss": "architecture", "subnets_loss": "other subnets",
          "validation_loss": "best net, validation"}  # fmt: skip


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


def limits_of(metrics: Sequence[Mapping]) -> list[str]:
    """The ends of the names of a run's numbers: one for each anchor of a front, as "@1200000", or "" without one."""
    ends = dict.fromkeys(key[len("entropy") :] for line in metrics for key in line if key.split("@")[0] == "entropy")
    return list(ends) or [""]


def details(line: Mapping, anchor: int = 0) -> Mapping:
    """Architecture, shares and entropies of a line, of one of the anchors where it has several."""
    return line["front"][anchor] if "front" in line else line


def loss_chart(metrics: Sequence[Mapping], words: Callable[[Mapping], object] = Architecture) -> Chart | None:
    """Losses of both levels and of the evaluated architectures; None if there is none.

    Args:
        metrics: The lines.
        words: Makes a text of an architecture.
    """
    curves = []
    for color, (name, label) in enumerate(LOSSES.items()):
        for anchor, (limit, (steps, values)) in enumerate(_series(metrics, name).items()):
            curve = Curve(f"{label} {limit}".strip(), steps, values, color, dashed=anchor > 0)
            if name == "validation_loss":
                at = {line["step"]: line for line in metrics}
                archs = [details(at[step], anchor).get("arch") for step in steps]
                notes = ["" if arch is None else str(words(arch)) for arch in archs]
                curve = Curve(curve.name, steps, values, color, dashed=anchor > 0, marked=True, notes=notes)
            curves.append(curve)
    return Chart("losses", curves, "nats") if curves else None


def share_charts(metrics: Sequence[Mapping], choices: Mapping[str, Sequence], anchor: int = 0) -> list[Chart]:
    """Shares of every choice: a chart for each dimension, a curve for each choice, faint ones for each layer.

    A dimension without a choice is left out.
    """
    lines = [line for line in metrics if "shares" in details(line, anchor)]
    steps, charts = [line["step"] for line in lines], []
    for name, values in choices.items() if lines else ():
        if len(values) < 2:
            continue
        rows, means = [], []
        for k, value in enumerate(values):
            by_row = zip(*([row[k] for row in details(line, anchor)["shares"][name]] for line in lines), strict=True)
            by_row = [list(shares) for shares in by_row]
            if len(by_row) > 1:
                rows += [Curve(str(value), steps, shares, k, row) for row, shares in enumerate(by_row)]
            means.append(Curve(str(value), steps, [sum(at) / len(at) for at in zip(*by_row, strict=True)], k))
        charts.append(Chart(name, [*rows, *means], "share", shares=True))
    return charts


def decision_charts(metrics: Sequence[Mapping]) -> list[Chart]:
    """Whether a search decides: what it has measured of the following.

    Entropy of the rows relative to uniform (faint: each row); loss of the mixture minus loss of the discretised net in nats;
    steps since the best architecture changed; expected and discretised cost as a share of each budget.
    """
    charts = [_entropies(metrics)]
    for name, title, unit in (
        ("discretisation_gap", "mixture minus best net", "nats"),
        ("arch_unchanged_steps", "steps since the best net changed", "steps"),
    ):
        found = _series(metrics, name)
        curves = [
            Curve(limit, *points, color, marked=unit == "nats") for color, (limit, points) in enumerate(found.items())
        ]
        charts.append(Chart(title, curves, unit, zero=unit == "nats"))
    charts.append(_budget_use(metrics))
    return [chart for chart in charts if chart.curves]


def plot_losses(metrics: Sequence[Mapping], path: str | Path) -> None:
    """`loss_chart` as a PNG."""
    chart = loss_chart(metrics)
    plot_charts([chart] if chart else [], path)


def plot_shares(metrics: Sequence[Mapping], choices: Mapping[str, Sequence], path: str | Path) -> None:
    """`share_charts` as a PNG."""
    plot_charts(share_charts(metrics, choices), path)


def plot_diagnostics(metrics: Sequence[Mapping], path: str | Path) -> None:
    """`decision_charts` as a PNG."""
    plot_charts(decision_charts(metrics), path)


def _entropies(metrics: Sequence[Mapping]) -> Chart:
    lines = [line for line in metrics if "entropies" in line]
    curves, steps = [], [line["step"] for line in lines]
    for name, rows in lines[0]["entropies"].items() if lines else ():
        for row in range(len(rows)):
            curves.append(Curve(name, steps, [line["entropies"][name][row] for line in lines], None, row))
    for color, (limit, points) in enumerate(_series(metrics, "entropy").items()):
        curves.append(Curve(limit or "mean", *points, color))
    return Chart("entropy of the shares, 1: undecided", curves, shares=True)


def _budget_use(metrics: Sequence[Mapping]) -> Chart:
    keys = dict.fromkeys(key for line in metrics for key in line if key.startswith("max_"))
    curves = []
    for color, key in enumerate(keys):
        name = key.removeprefix("max_")
        lines = [line for line in metrics if key in line]
        steps = [line["step"] for line in lines]
        for kind, dashed, words in (("expected", False, "expected"), ("arch", True, "best net")):
            values = [line.get(f"{kind}_{name}", 0) / line[key] for line in lines]
            curves.append(Curve(f"{name}, {words}", steps, values, color, dashed=dashed))
    return Chart("share of the budget that is used", curves)


def _series(metrics: Sequence[Mapping], name: str) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of a number, one series for each limit of a front ("" without one)."""
    keys = [key for key in dict.fromkeys(key for line in metrics for key in line) if key.split("@")[0] == name]
    lines = {key: [line for line in metrics if key in line] for key in keys}
    return {key[len(name) :]: ([x["step"] for x in found], [x[key] for x in found]) for key, found in lines.items()}
