"""The part of a report that shows what was found: drawn layer by layer, its sizes and scores, its budgets, its latency."""

from collections.abc import Mapping
from typing import Any

from ..hub.card_facts import budget_rows, conditions_text, latency_rows
from ..space import Architecture
from .blocks import Block, Picture, Section, Table, Words
from .figures import thinned
from .net_figures import FOUND, LARGEST, net_figure
from .run_folder import RunFolder


MOST_NETS = 4  # of a front that are drawn


def found_section(run: RunFolder) -> Section:
    """What a search has found or, while it is under way, what it would return now."""
    if run.front:
        title, note = (
            "Nets of the front",
            "Points of the front, from the cheapest to the dearest. Pale: the largest net.",
        )
    elif run.finished:
        title, note = (
            "What was found",
            "Solid: what was found. Pale: the largest net. The legend shows and hides each net.",
        )
    else:
        title, note = "What it would be now", f"The most likely net after step {run.step}; the search goes on."
    blocks: list[Block] = []
    nets, hidden = _nets(run)
    if nets and run.space is not None:
        drawn = net_figure(nets, run.space, run.labels, hidden, run.ranks)
        if drawn is not None:
            blocks.append(Picture(drawn, caption=note))
    if "notation" in run.results:
        blocks.append(Words(run.results["notation"]))
    if run.arch is not None:
        blocks.append(Words(str(run.shown(run.arch))))
    table = run.results.get("table", [])
    if table and not run.front:  # the points of a front have a table of their own
        words = "With the weights that all nets share: trained by itself, each would be better."
        blocks.append(Table(table, words, marked=sum(row["net"].startswith("found") for row in table)))
    if budgets := budget_rows(run.results.get("budgets") or {}):
        blocks.append(Table([with_share(row) for row in budgets], "What the budgets allow, and what is used of them."))
    if latency := run.results.get("latency"):
        words = f"One forward pass: {conditions_text(latency['conditions'])}."
        if latency["limit_ms"] is not None:
            words = f"Predicted milliseconds keep to the budget of {latency['limit_ms']:.4g} ms. {words}"
        blocks.append(Table(latency_rows(latency), words))
    return Section(title, blocks)


def with_share(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a budget, with the share of it that is used."""
    return {**row, "used": f"{row['this net'] / row['limit']:.1%}"}


def _nets(run: RunFolder) -> tuple[dict[str, Architecture], set[str]]:
    """Name -> net that is drawn, and those that are hidden at first."""
    nets: dict[str, Architecture] = {}
    if run.space is not None and run.space.ordered:
        nets[LARGEST] = run.space.largest
    if run.front:
        points = {
            f"point {n}": Architecture(p["arch"]) for n, p in enumerate(run.front["points"]) if p["nondominated"]
        }
        return nets | {name: points[name] for name in thinned(list(points), MOST_NETS)}, set()
    if run.arch is not None:
        nets[FOUND] = run.arch
    cuts = hand_cuts(run)
    drawn = {name: arch for name, arch in cuts.items() if arch not in nets.values()}
    chosen = (run.results.get("finalists") or {}).get("chosen_by_search")
    if chosen and Architecture(chosen) != run.arch:
        drawn["the search's choice"] = Architecture(chosen)
    return {**nets, **drawn}, set(list(drawn)[1:])


def hand_cuts(run: RunFolder) -> dict[str, Architecture]:
    """Nets with equal layers that the search was compared with, the best first: the longest trained, then the smallest loss."""
    best: dict[Architecture, tuple[float, float]] = {}
    for line in run.finalists:
        if "hand cut" in line["origin"] and line["seed"] == 0 and line["loss"] is not None:
            arch, key = Architecture(line["arch"]), (-line["steps"], line["loss"])
            best[arch] = min(key, best.get(arch, key))
    ranked = sorted(best, key=best.__getitem__)
    return {f"hand cut {number}" if number > 1 else "best hand cut": arch for number, arch in enumerate(ranked, 1)}
