"""How a run was made: its numbers at a glance, command, data, device, time, versions."""

from collections.abc import Mapping
from typing import Any

from ..analysis import format_cell
from ..hub.card_facts import clock
from .blocks import Command, Section, Table
from .run_folder import RunFolder


def tiles(run: RunFolder) -> dict[str, str]:
    """The few numbers that people ask for first, name -> text."""
    results, found = run.results, {}
    table = results.get("table", [])
    largest = next((row for row in table if row["net"].startswith("largest")), None)
    if run.kind == "search" and table and not run.front:
        own = table[0]
        share = f" ({own['parameters'] / largest['parameters']:.0%} of the largest)" if largest else ""
        found["parameters"] = f"{own['parameters']:,}{share}"
        found |= {
            name: format_cell(value)
            for name, value in own.items()
            if name in ("test loss", "perplexity", "accuracy in %")
        }
    if run.front:
        points = run.front["points"]
        found["nets"] = f"{len(points)}, of which {sum(point['nondominated'] for point in points)} are beaten by none"
        found["hypervolume"] = f"{run.front['hypervolume']:.4f}"
    if not run.finished and run.kind == "search" and run.metrics:
        last = run.metrics[-1]
        found["step"] = f"{run.step:,} of {run.settings['max_steps']:,}"
        found |= {name.replace("_", " "): f"{last[name]:.4g}" for name in ("train_loss", "entropy") if name in last}
    if run.kind == "compare" and run.finished:
        found["methods"] = ", ".join(row["method"] for row in results["methods"])
        found["nets"] = f"{len(results['nets'])}"
        found["measured"] = f"{results['metric']}, test"
    if run.kind == "compress" and run.rows:
        found |= _before_and_after(run)
    if "search_cost" in results:
        found["search cost"] = f"{results['search_cost']:,.0f} training steps of the {_plain_net(results)} net"
    if "entropy" in results:
        found["entropy of the shares"] = f"{results['entropy']:.2f} (1: undecided)"
    if "seconds" in results.get("search", {}):
        found["time"] = clock(results["search"]["seconds"])
    return found


def _before_and_after(run: RunFolder) -> dict[str, str]:
    """Of a compression: how many parameters are left, and what its net with most of them scores."""
    rows = sorted(run.rows.values(), key=lambda row: -row["parameters"])
    before, *_, after = rows[0]["table"]
    shares = ", ".join(f"{row['parameters'] / before['parameters']:.0%}" for row in rows)
    found = {"parameters": f"{shares} of {before['parameters']:,}"}
    for name in ("test loss", "perplexity", "accuracy in %"):
        if name in after:
            found[name] = f"{format_cell(after[name])} (checkpoint: {format_cell(before[name])})"
    cost = sum(row["cost"] for row in rows)
    return found | {"cost": f"{cost:,.0f} training steps of the checkpoint"}


def provenance_section(run: RunFolder) -> Section:
    """Command, data, device, time and versions, as far as the run has left them."""
    results, about = run.results, run.about
    used = results.get("search", {})
    rows = {
        "method": run.settings.get("method"),
        "architectures in the space": None if run.space is None else f"{run.space.size:,}",
        "checkpoint": results.get("checkpoint"),
        "data": results.get("data"),
        "steps": run.settings.get("max_steps"),
        "search cost": None if "search_cost" not in results else f"{results['search_cost']:,.1f} training steps of the "
        f"{_plain_net(results)} net",
        "device": used.get("device") or about.get("device"),
        "wall clock": clock(used["seconds"]) if "seconds" in used else None,
        "CPU time of the main process": clock(used["cpu_seconds"]) if "cpu_seconds" in used else None,
        "largest difference of logits, export against supernet": None if "logit_difference" not in results
        else f"{results['logit_difference']:.1e} of {results['logit_scale']:.1e}",
        **about.get("versions", {}),
    }  # fmt: skip
    if used and "seconds" not in used:
        rows["wall clock"] = "not added up, as the run was stopped and resumed"
    known = [{"what": name, "value": str(value)} for name, value in rows.items() if value is not None]
    if not about.get("versions"):
        known.append({"what": "versions", "value": "not recorded: the run is older than this report"})
    command = results.get("command") or about.get("command")
    return Section("How it was made", [*([Command(command)] if command else []), Table(known)])


def _plain_net(results: Mapping[str, Any]) -> str:
    return "largest" if "largest" in results else "most expensive"
