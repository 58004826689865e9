"""The parts of a report about a comparison: scores of every net, differences, any-time curves, rank correlations."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..analysis.anytime import anytime_chart, curves_of, looked_up_chart
from ..analysis.cka import cka_charts
from ..analysis.summaries import as_text, difference_row
from ..run_files import read_results
from ..space import Architecture
from .blocks import Block, Grid, Picture, Section, Table, Words
from .figures import Figure, chart_figure, color, figure, lines_of
from .net_figures import LARGEST, net_figure
from .run_folder import RunFolder


def score_section(run: RunFolder) -> Section:
    """Means and intervals of every net, for each way to train; and the tables."""
    if run.kind != "compare" or not run.finished:
        return Section("Scores", [])
    nets, methods, unit = run.results["nets"], run.results["methods"], run.results["metric"]
    columns = [
        name for name in nets[0] if any(_is_score(row.get(name)) for row in nets) and not name.endswith("validation")
    ]
    pictures = [Picture(score_figure(nets, name, unit), f"{name}, test") for name in columns]
    blocks: list[Block] = [
        Grid(pictures),
        Table([_row(row) for row in methods], "Methods: means over their different nets."),
    ]
    blocks.append(
        Table([_row(row) for row in nets], "Nets: means over seeds, with 95 % intervals where they are known.")
    )
    if run.results["missing"]:
        blocks.append(Words(f"Missing, or under way in another process: {', '.join(run.results['missing'])}."))
    return Section("Scores", blocks)


def score_figure(nets: Sequence[Mapping[str, Any]], column: str, unit: str) -> Figure:
    """A mark for each net and each of its scores, and the 95 % interval of its mean."""
    traces = []
    for net in nets:
        score = net.get(column)
        if not _is_score(score):
            continue
        name, low_high = escape(net["net"]), score["interval"]
        error = {} if low_high is None else {"error_y": {"type": "data", "array": [low_high[1] - score["mean"]]}}
        found, layers = score["values"], lines_of(Architecture(net["architecture"]))
        words = f"{name}<br>{layers}<br>mean of {len(found)} {score['of']}: %{{y:.4f}}"
        traces += [
            {"x": [name] * len(found), "y": found, "marker": {"color": color(1), "size": 7, "symbol": "circle-open"},
             "hovertemplate": f"{name}: %{{y:.4f}}<extra></extra>"},
            {"x": [name], "y": [score["mean"]], "marker": {"color": color(0), "size": 10, "symbol": "diamond"},
             "hovertemplate": f"{words}<extra></extra>", **error},
        ]  # fmt: skip
    marks = {"type": "scatter", "mode": "markers", "showlegend": False}
    drawn = figure([trace | marks for trace in traces], 320, "", unit)
    drawn["layout"]["xaxis"] |= {"type": "category"}
    return drawn


def comparison_section(run: RunFolder) -> Section:
    """Differences, nets, any-time curves, rank correlations and the similarity of layers."""
    if run.kind != "compare" or not run.finished:
        return Section("Comparison", [])
    blocks: list[Block] = []
    found = {name: Architecture(arch) for name, arch in _read(run, "architectures.json").items()}
    if found and run.space is not None:
        largest = {LARGEST: run.space.largest} if run.space.ordered else {}
        drawn = net_figure({**largest, **found}, run.space, run.labels)
        if drawn is not None:
            blocks.append(Picture(drawn, "nets that were found"))
    if tests := [_difference(test) for test in run.results["tests"]]:
        words = "Differences between methods, each net counted once: Welch's t-test, not corrected for the number of tests."
        blocks.append(Table(tests, words))
    charts = []
    numbers = _read(run, "anytime.json")
    if curves := curves_of(numbers, "validation_losses"):
        charts.append(anytime_chart(curves))
    if curves := curves_of(numbers, "table_scores"):
        charts.append(looked_up_chart(curves, run.results["table_metric"]))
    similar = run.results["cka"]
    for pair in next(iter(similar.values()), {}):
        charts += cka_charts({pair: {net: pairs[pair]["layers"] for net, pairs in similar.items()}})
    pictures = [Picture(chart_figure(chart), chart.title) for chart in charts]
    for name, pairs in _read(run, "rank_correlation.json").items():
        if not name.startswith("more parameters"):
            pictures.append(Picture(_ranks(pairs), f"inherited loss of {name}"))
    if pictures:
        blocks.append(Grid(pictures))
    if run.results["rank_correlation"]:
        blocks.append(
            Table(
                [_row(row) for row in run.results["rank_correlation"]],
                "Rank correlation with the retrained validation loss.",
            )
        )
    return Section("Comparison", blocks)


def _ranks(pairs: Sequence[Mapping[str, Any]]) -> Figure:
    marks = {
        "type": "scatter",
        "x": [pair["predicted"] for pair in pairs],
        "y": [pair["retrained"] for pair in pairs],
        "mode": "markers",
        "marker": {"size": 9, "color": color(0)},
        "customdata": [escape(pair["net"]) for pair in pairs],
        "hovertemplate": "%{customdata}<br>inherited %{x:.4f}, retrained %{y:.4f}<extra></extra>",
    }
    return figure([marks], 300, "inherited loss", "retrained loss")


def _difference(test: Mapping[str, Any]) -> dict[str, str]:
    shown = difference_row(test | {"horizon": test["horizon"] or 0})
    how = test["mode"] if test["horizon"] is None else f"{test['mode']} x{test['horizon']:g}"
    return {
        "trained by": how,
        **{name: value.replace("None", "-") for name, value in shown.items() if name != "horizon"},
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for reading, with architectures in words."""
    return as_text(
        {name: str(Architecture(value)) if name == "architecture" else value for name, value in row.items()}
    )


def _is_score(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("mean") is not None


def _read(run: RunFolder, name: str) -> dict[str, Any]:
    path = run.folder / name
    return dict(read_results(path)) if path.is_file() else {}
