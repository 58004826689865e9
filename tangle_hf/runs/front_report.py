"""What a search for a front leaves and prints at its end."""

import csv
from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel

from ..analysis import format_table, plot_front
from ..cost.tables import of_largest
from ..search import SearchArguments
from ..search.gradient.front import hypervolume
from .folder import write_json
from .latency import compare_latency
from .search_report import common_results, table_row
from .task import FoundFront, SearchTask


def report_front(
    supernet: PreTrainedModel,
    found: FoundFront,
    task: SearchTask,
    settings: SearchArguments,
    used: Mapping[str, float | str],
) -> None:
    """Leaves the front as `pareto.json`, `pareto.csv` and `pareto.png`, the results, and prints the front.

    Args:
        supernet: After the search.
        found: What it found.
        task: Data and scores.
        settings: The trainer's.
        used: As in `report`.
    """
    run_dir, space, cost = Path(settings.output_dir), supernet.space, settings.pareto
    budget = found.front.budgets[0][-1]
    largest = budget.in_units(of_largest(budget.table))
    points, shown, rows = [], [], []
    for number, point in enumerate(found.points):
        arch = point.candidate.arch
        scores = task.test(supernet, arch=arch)
        numbers = {
            "limit": point.limit,
            "cost": point.cost,
            "share": point.cost / largest,
            "loss": point.loss,
            **scores,
        }
        points.append({**numbers, "nondominated": point.nondominated, "arch": arch.to_dict()})
        shown.append({"point": number, **numbers, "front": "yes" if point.nondominated else "no", "arch": str(arch)})
        rows.append(table_row(f"point {number} of the front", supernet, arch, task, scores))
    if space.ordered:
        scores = task.test(supernet, arch=space.largest)
        rows.append(table_row("largest, in the supernet", supernet, space.largest, task, scores))
    area = hypervolume([(point["share"], point["loss"]) for point in points], (1.0, found.worst))
    anchors = [budget.in_units(limit) for limit in found.front.limits]
    result = {"cost": cost, "largest": largest, "anchors": anchors, "max_steps": settings.max_steps}
    result |= {"reference": [1.0, found.worst], "hypervolume": area, "points": points}
    write_json(run_dir / "pareto.json", result)
    with (run_dir / "pareto.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(shown[0]))
        writer.writeheader()
        writer.writerows(shown)
    plot_front(points, cost, run_dir / "pareto.png")
    print("\n" + format_table(shown))
    results = common_results(supernet, found.cost, task, used) | {"table": rows}
    if settings.latency_table is not None:
        timed = {f"point {n}": (space.architecture(**point["arch"]), None) for n, point in enumerate(points)}
        results["latency"] = compare_latency(supernet, timed, settings, task.sequence_length, None)
    write_json(run_dir / "results.json", results)
    print(
        f"\n{sum(point['nondominated'] for point in points)} of {len(points)} points are beaten by no other; hypervolume "
        f"{area:.4f} in shares of the largest net's {cost} times nats, up to all of it and the smallest net's loss, "
        f"{found.worst:.4f}"
    )
    print(f'export one: tangle_hf.resolve.extract_point("{run_dir}", POINT, FOLDER)')
