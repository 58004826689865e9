"""The parts of a report about a compression: what is left of the checkpoint, beside it, and which nets were tried."""

from collections.abc import Mapping
from typing import Any

from ..hub.card_facts import budget_rows
from ..hub.compressed_cards import joint_table
from ..space import Architecture
from .blocks import Block, Fold, Picture, Section, Table, Words
from .figures import Figure, color, figure, lines_of, rounded
from .finalists import round_figure
from .found import with_share
from .net_figures import FOUND, LARGEST, net_figure
from .run_folder import RunFolder


UNIFORM = "uniform cut"  # origin of the net with the same share of every layer


def left_section(run: RunFolder) -> Section:
    """Scores and sizes before and after, and each net layer by layer."""
    if not run.rows:
        return Section("What is left", [])
    words = "With the weights of the checkpoint as they were cut, and after training. ms: a forward pass."
    blocks: list[Block] = [Table(joint_table(_by_size(run)), words)]
    if run.space is None:  # an older run
        return Section("What is left", blocks)
    if len(run.rows) > 1:
        blocks.append(Picture(size_figure(run), caption="Point at a net for its layers."))
    return Section("What is left", blocks + _each(run, _net))


def tried_section(run: RunFolder) -> Section:
    """For each budget the nets that were tried, their losses by round, and what it cost."""
    return Section("What was tried", [] if run.space is None else _each(run, _tried))


def _each(run: RunFolder, blocks_of) -> list[Block]:
    """The blocks of the only net, or of each one in a fold, the first of which is open."""
    if len(run.rows) == 1:
        return blocks_of(run, next(iter(run.rows.values())))
    return [
        Fold(name, blocks_of(run, row), open=not number) for number, (name, row) in enumerate(_by_size(run).items())
    ]


def _by_size(run: RunFolder) -> dict[str, Mapping[str, Any]]:
    """The nets, the largest first."""
    return dict(sorted(run.rows.items(), key=lambda item: -item[1]["parameters"]))


def _net(run: RunFolder, row: Mapping[str, Any]) -> list[Block]:
    found, blocks, hidden = Architecture(row["found"]), [], set()
    nets = {LARGEST: run.space.largest, FOUND: found}
    for line, arch in _finalists(row):
        if arch not in nets.values() and line["finalist"] not in nets:  # the best one of each origin
            nets[line["finalist"]] = arch
            hidden |= {line["finalist"]} - {UNIFORM}
    drawn = net_figure(nets, run.space, run.labels, hidden, run.ranks)
    if drawn is not None:
        words = "Solid: what is left. Pale: the checkpoint. Marks: other nets that were tried; the legend shows and hides each."
        blocks.append(Picture(drawn, caption=words))
    blocks.append(Words(str(run.shown(found))))
    if removed := [str(layer + 1) for layer in row["layers_removed"]]:
        blocks.append(Words(f"Layers of the checkpoint that are gone: {', '.join(removed)}."))
    if budgets := budget_rows(row["budgets"]):
        blocks.append(Table([with_share(line) for line in budgets], "What the budgets allow, and what is used."))
    return blocks


def _tried(run: RunFolder, row: Mapping[str, Any]) -> list[Block]:
    lines = [
        {"arch": arch, "origin": line["finalist"], "steps": int(name.split()[0]), "loss": loss}
        for line, arch in _finalists(row)
        for name, loss in line.items()
        if name.split()[0].isdigit() and not isinstance(loss, str)  # "-": it had ended, or "diverged"
    ]
    blocks: list[Block] = []
    if lines:
        words = "Validation loss after each round of the recovery, which the net that is left went on with."
        blocks.append(Picture(round_figure(lines, Architecture(row["found"]), run.shown), caption=words))
    table = [
        {name: "" if value == "-" else value for name, value in line.items()} for line in row["finalists"]["rows"]
    ]
    words = (
        "Nets within the budget, with the loss that they inherit and that after each round. The first is what is left."
    )
    blocks.append(Table(table, words, marked=1))
    costs = [
        {"part": part, "training steps of the checkpoint": rounded(cost, 4)} for part, cost in row["costs"].items()
    ]
    blocks.append(Table(costs, f"It cost {row['cost']:,.1f} training steps of the checkpoint in all."))
    return blocks


def _finalists(row: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Architecture]]:
    """(row of the table, architecture) of all nets that were tried, the one that was taken first."""
    return list(zip(row["finalists"]["rows"], map(Architecture, row["finalists"]["archs"]), strict=True))


def size_figure(run: RunFolder) -> Figure:
    """Test score over parameters, of the checkpoint and of what was made of it."""
    rows = [row["table"][-1] for row in run.rows.values()]
    score = next(key for key in rows[0] if key in ("test loss", "accuracy in %"))
    points = [(row["parameters"], row[score], name) for name, row in zip(run.rows, rows, strict=True)]
    words = {name: lines_of(run.shown(row["found"])) for name, row in run.rows.items()}
    before = next(iter(run.rows.values()))["table"][0]
    points = sorted([*points, (before["parameters"], before[score], "checkpoint")])
    marks = {
        "type": "scatter",
        "x": [size for size, *_ in points],
        "y": [rounded(value) for _, value, _ in points],
        "text": [name for *_, name in points],
        "customdata": [words.get(name, lines_of(run.space.largest)) for *_, name in points],
        "mode": "lines+markers+text",
        "textposition": "top center",
        "cliponaxis": False,
        "line": {"color": color(0), "width": 1},
        "marker": {"size": 10, "color": color(0)},
        "hovertemplate": "%{text}<br>%{customdata}<br>%{x:,} parameters, %{y:.4g}<extra></extra>",
    }
    return figure([marks], 340, "parameters", score)
