"""Several searches on one page: their tables, curves and nets together, and in what their settings differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..analysis.charts import Chart, Curve
from ..analysis.trajectories import loss_chart
from ..hub.card_facts import clock
from ..space import Architecture
from .blocks import Block, Grid, Picture, Section, Table, Words
from .figures import Figure, chart_figure, color, figure, lines_of
from .net_figures import LARGEST, net_figure
from .page import save_page
from .run_folder import RunFolder, read_run
from .settings import differing


def write_reports(run_dirs: Sequence[str | Path], path: str | Path) -> Path:
    """Writes a page about several searches.

    Args:
        run_dirs: Their folders, finished or not.
        path: The file.

    Returns:
        The file.

    Raises:
        ValueError: A folder holds no run of a search, is given twice, or a file of it is damaged.
    """
    runs = named([read_run(folder) for folder in run_dirs])
    parts = [_table(runs), _sizes(runs), _nets(runs), _curves(runs), _settings(runs)]
    return save_page(Path(path), f"{len(runs)} searches", ", ".join(runs), {}, parts)


def named(runs: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """Name -> run: the name of its folder, or the path where two have one name.

    Raises:
        ValueError: A run is no search, or given twice.
    """
    others = [run.folder for run in runs if run.kind != "search"]
    if others:
        raise ValueError(f"{others[0]} is no search; only searches are shown side by side, so give it alone")
    paths = [run.folder.resolve() for run in runs]
    if twice := [str(run.folder) for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"{twice[0]} is given twice; give every run once")
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.folder): run for run in runs}


def _table(runs: Mapping[str, RunFolder]) -> Section:
    rows = []
    for name, run in runs.items():
        found = next(iter(run.results.get("table", [])), {})
        row: dict[str, Any] = {"run": name, "method": run.settings["method"]}
        row["state"] = "finished" if run.finished else f"step {run.step:,} of {run.settings['max_steps']:,}"
        row |= {key: value for key, value in found.items() if key != "net" and not run.front}
        row["search cost"] = run.results.get("search_cost")
        seconds = run.results.get("search", {}).get("seconds")
        row["time"] = None if seconds is None else clock(seconds)
        row["found"] = "a front" if run.front else "" if run.arch is None else str(run.shown(run.arch))
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row if key != "found")
    filled = [{key: "" if row.get(key) is None else row[key] for key in (*columns, "found")} for row in rows]
    return Section(
        "Runs", [Table(filled, "Scores are those of inherited weights, each in the supernet of its own search.")]
    )


def _sizes(runs: Mapping[str, RunFolder]) -> Section:
    """Test score over parameters of what was found, and of the points of fronts."""
    scores = [key for row in _points(runs) for key in row[1] if key in ("test loss", "accuracy in %")]
    if not scores:
        return Section("Size and score", [])
    return Section("Size and score", [Picture(_scatter(runs, scores[0]), caption="Point at a net for its layers.")])


def _points(runs: Mapping[str, RunFolder]) -> list[tuple[str, Mapping[str, Any], Architecture]]:
    """(run, row of its table, architecture) of every net that was found."""
    found = []
    for name, run in runs.items():
        table = run.results.get("table", [])
        if run.front:
            pairs = zip(run.front["points"], table, strict=False)
            found += [(name, row, run.shown(point["arch"])) for point, row in pairs]
        elif table and run.arch is not None:
            found.append((name, table[0], run.shown(run.arch)))
    return found


def _scatter(runs: Mapping[str, RunFolder], score: str) -> Figure:
    traces = []
    for number, name in enumerate(runs):
        own = sorted((p for p in _points(runs) if p[0] == name), key=lambda point: point[1]["parameters"])
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "x": [row["parameters"] for _, row, _ in own],
                    "y": [row[score] for _, row, _ in own],
                    "mode": "lines+markers" if len(own) > 1 else "markers",
                    "line": {"color": color(number), "width": 1},
                    "marker": {"size": 10, "color": color(number)},
                    "name": name,
                    "customdata": [lines_of(arch) for *_, arch in own],
                    "hovertemplate": "%{customdata}<br>%{x:,} parameters, %{y:.4g}",
                }
            )
    return figure(traces, 400, "parameters", score)


def _nets(runs: Mapping[str, RunFolder]) -> Section:
    """What was found, drawn together, where the spaces are equal."""
    found = {name: run.arch for name, run in runs.items() if run.arch is not None}
    if not found or all(run.space is None for run in runs.values()):
        return Section("Nets", [])
    first = next(iter(runs.values()))
    if any((run.space, run.ranks) != (first.space, first.ranks) for run in runs.values()):
        return Section("Nets", [Words("The runs have different spaces, so that their nets are not drawn together.")])
    largest: dict[str, Architecture] = {LARGEST: first.space.largest} if first.space.ordered else {}
    drawn = net_figure({**largest, **found}, first.space, first.labels, ranks=first.ranks)
    return Section("Nets", [] if drawn is None else [Picture(drawn, caption="Pale: the largest net.")])


def _curves(runs: Mapping[str, RunFolder]) -> Section:
    """Each loss and the entropy, a line for each run; of a front its first anchor."""
    curves: dict[str, list[Curve]] = {}
    for number, (name, run) in enumerate(runs.items()):
        seen: set[str] = set()
        for curve in (loss_chart(run.metrics, run.shown) or Chart("", [])).curves:
            title = curve.name.split(" @")[0]
            if title not in seen:
                seen.add(title)
                curves.setdefault(f"loss: {title}", []).append(replace(curve, name=name, color=number))
        for key in ("entropy", "discretisation_gap"):
            lines = [(line["step"], line[key]) for line in run.metrics if key in line]
            if lines:
                steps, values = zip(*lines, strict=True)
                curves.setdefault(key.replace("_", " "), []).append(Curve(name, steps, values, number))
    pictures: list[Picture] = []
    for title, found in curves.items():
        drawn = chart_figure(Chart(title, found, "nats" if "loss" in title or "gap" in title else ""))
        pictures.append(Picture(drawn, title))
    blocks: list[Block] = [Grid(pictures)] if pictures else []
    return Section("Curves", blocks)


def _settings(runs: Mapping[str, RunFolder]) -> Section:
    rows = differing(runs)
    return Section("Differences in settings", [Table(rows)] if rows else [Words("All settings are equal.")])
