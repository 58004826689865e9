"""What a search for a front leaves and prints at its end."""

import csv
from collections.abc import Mapping

from transformers import PreTrainedModel

from ..analysis import format_table, plot_front
from ..cost.tables import of_largest
from ..data.examples import Examples
from ..messages import format_lines
from ..search.gradient.front import hypervolume
from ..space import Architecture
from .closing import next_steps_of_front
from .folder import write_json
from .found import FoundFront
from .latency import compare_latency
from .results import common_results, cost_text, table_row
from .run import Run


def report_front(
    run: Run, supernet: PreTrainedModel, examples: Examples, found: FoundFront, used: Mapping[str, float | str]
) -> None:
    """Leaves the front as `pareto.json`, `pareto.csv` and `pareto.png`, the results, and prints the front.

    Args:
        run: The run.
        supernet: After the search.
        examples: How nets are tested.
        found: What it found.
        used: Device, and if known seconds.
    """
    run_dir, settings, space, cost = run.folder, run.settings, supernet.space, run.settings.pareto

    def test(arch: Architecture) -> Mapping[str, float]:
        return examples.score(supernet, examples.test, settings.per_device_batch_size, arch=arch)

    budget = found.front.budgets[0][-1]
    largest = budget.in_units(of_largest(budget.table))
    points, shown, rows = [], [], []
    for number, point in enumerate(found.points):
        arch = point.candidate.arch
        scores = test(arch)
        numbers = {
            "limit": point.limit,
            "cost": point.cost,
            "share": point.cost / largest,
            "loss": point.loss,
            **examples.columns(scores),
        }
        trained = found.columns[number] if found.columns else {}
        points.append({**numbers, **trained, "nondominated": point.nondominated, "arch": arch.to_dict()})
        said = {name: "-" if value is None else value for name, value in trained.items()}
        front = {"front": "yes" if point.nondominated else "no"}
        shown.append({"point": number, **numbers, **said, **front, "arch": str(supernet.by_position(arch))})
        rows.append(table_row(f"point {number} of the front", supernet, arch, examples, scores))
    if space.ordered:
        rows.append(table_row("largest, in the supernet", supernet, space.largest, examples, test(space.largest)))
    area = hypervolume([(point["share"], point["loss"]) for point in points], (1.0, found.worst))
    anchors = [budget.in_units(limit) for limit in found.front.limits]
    result = {"cost": cost, "largest": largest, "anchors": anchors, "max_steps": settings.max_steps}
    cuts = [{"cost": size, "loss": loss, "arch": arch.to_dict()} for arch, size, loss in found.hand_cuts]
    result |= {"hand_cuts": cuts, "reference": [1.0, found.worst], "hypervolume": area, "points": points}
    write_json(run_dir / "pareto.json", result)
    with (run_dir / "pareto.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(shown[0]))
        writer.writeheader()
        writer.writerows(shown)
    plot_front(points, cost, run_dir / "pareto.png", cuts)
    print(format_table(shown))
    results = common_results(supernet, found, examples, used) | {"table": rows, **found.results}
    if settings.latency_table is not None:
        timed = {f"point {n}": (space.architecture(**point["arch"]), None) for n, point in enumerate(points)}
        results["latency"] = compare_latency(supernet, timed, settings, examples.sequence_length, None)
    write_json(run_dir / "results.json", results)
    by = " in the short trainings" if found.columns else ""
    most, least = ("largest", "smallest") if space.ordered else ("most expensive", "cheapest")
    print(
        f"{sum(point['nondominated'] for point in points)} of {len(points)} points are beaten by no other{by}; hypervolume "
        f"{area:.4f} in shares of the {most} net's {cost} times nats, up to all of it and the {least} net's loss, "
        f"{found.worst:.4f}"
    )
    unbeaten = [c for c in cuts if not any(p["cost"] <= c["cost"] and p["loss"] <= c["loss"] for p in points)]
    if cuts:
        print(
            f"cuts by hand at these budgets, with the same weights: {len(cuts)}, of which no point beats {len(unbeaten)}"
        )
    print(format_lines({"search cost": cost_text(results), **next_steps_of_front(run_dir)}))
