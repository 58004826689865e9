"""The part of a report that shows the short trainings at the end of a search with a budget."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from ..analysis.pictures import COLORS, MUTED
from ..hub.card_facts import finalist_facts
from ..space import Architecture
from .blocks import Block, Picture, Section, Table, Words
from .figures import Figure, figure, lines_of
from .run_folder import RunFolder


TINTS = {"search": COLORS[0], "search and hand cut": COLORS[3], "hand cut": COLORS[1], "random": COLORS[2],
         "uniform cut": COLORS[4], "sensitivities": COLORS[2], "gradient search": COLORS[0]}  # fmt: skip


def finalist_section(run: RunFolder) -> Section:
    """Losses by round, and the table of the finalists once it is decided."""
    if not run.finalists:
        return Section("Finalists", [])
    lines = [line for line in run.finalists if line["seed"] == 0 and line["loss"] is not None]
    drawn = Picture(
        round_figure(lines, run.arch if run.finished else None, run.shown),
        caption="Validation loss after each round of short training, first seed. Lines that end early did not go on.",
    )
    blocks: list[Block] = [drawn]
    if finalists := run.results.get("finalists"):
        facts = finalist_facts(finalists)
        front = run.settings.get("pareto") is not None
        words = "Each point has its own; what is taken is marked yes." if front else "The first row is the result."
        blocks.append(Table(facts["rows"], words, marked=0 if front else 1))
        words = f"Trained from {facts['start']}. They cost {facts['cost']} training steps, a part of the search cost."
        if facts["noise"]:
            words += (
                f" The last losses of those that may be taken are means over seeds, with a standard error of {facts['noise']}: "
                "nets that differ by less are equal as far as this shows."
            )
        blocks.append(Words(words))
    return Section("Finalists", blocks)


def round_figure(
    lines: Sequence[Mapping[str, Any]], result: Architecture | None, shown: Callable[[Architecture], Architecture]
) -> Figure:
    """Losses of short trainings: a line for each net, coloured by who proposed it.

    Args:
        lines: What was measured: "arch", "origin", "steps", "loss".
        result: The net that was taken; None: nothing is decided.
        shown: Puts the layers of an architecture in their order.
    """
    nets: dict[Architecture, list] = {}
    for line in lines:
        nets.setdefault(
            line["arch"] if isinstance(line["arch"], Architecture) else Architecture(line["arch"]), []
        ).append(line)
    traces, named = [], set()
    for arch, found in nets.items():
        found, origin = sorted(found, key=lambda line: line["steps"]), found[0]["origin"]
        taken = arch == result
        words = f"{escape(origin)}{', the result' if taken else ''}<br>{lines_of(shown(arch))}"
        traces.append(
            {
                "type": "scatter",
                "x": [line["steps"] for line in found],
                "y": [line["loss"] for line in found],
                "mode": "lines+markers",
                "line": {"color": TINTS.get(origin, MUTED), "width": 3.5 if taken else 1.3},
                "marker": {"size": 9 if taken else 5},
                "name": escape(origin),
                "legendgroup": origin,
                "showlegend": origin not in named,
                "hovertemplate": f"{words}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            }
        )
        named.add(origin)
    return figure(traces, 340, "steps of short training", "validation loss, nats")
