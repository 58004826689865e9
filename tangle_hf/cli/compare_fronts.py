"""One search with --pareto beside separate searches with budgets, by hypervolume.

    tangle-hf compare_fronts --front runs/front --separate runs/30 runs/50 runs/70

Compares inherited test losses. The reference is all of the largest net's cost and a loss worse than that of all nets by a tenth
of their range. The steps of both sides are printed: equal totals make it a fair comparison.
"""

import argparse
import sys
from pathlib import Path

from ..analysis import format_table
from ..errors import readable_errors
from ..run_files import read_results, read_settings
from ..search.gradient.front import hypervolume


def main(front_dir: Path, separate_dirs: list[Path]) -> None:
    """Prints a row per side, and a row per budget that both have."""
    front = _read(front_dir / "pareto.json", "a finished run with --pareto")
    cost, largest = front["cost"], front["largest"]
    separate, steps = {}, 0
    for folder in separate_dirs:
        results = _read(folder / "results.json", "a finished run")
        if f"max_{cost}" not in results.get("budgets", {}):
            raise ValueError(f"{folder} has no --max_{cost}, the cost of the front in {front_dir}")
        budgets = results["budgets"]
        if budgets[f"max_{cost}"] in separate:
            raise ValueError(f"{folder} has the --max_{cost} of another run; give one run of each budget")
        separate[budgets[f"max_{cost}"]] = (budgets[f"arch_{cost}"] / largest, results["table"][0]["test loss"])
        steps += read_settings(folder)["max_steps"]
    points = {point["limit"]: (point["share"], point["test loss"]) for point in front["points"]}
    losses = [loss for _, loss in (*separate.values(), *points.values())]
    reference = (1.0, max(losses) + 0.1 * (max(losses) - min(losses)))
    shared = [points[limit] for limit in separate if limit in points]
    sides = [
        ("one front", list(points.values()), front["max_steps"]),
        ("separate searches", [*separate.values()], steps),
    ]
    if 0 < len(shared) < len(points):
        sides.insert(1, ("one front, budgets of the others", shared, front["max_steps"]))
    print(
        format_table(
            [
                {"search": name, "steps": total, "nets": len(nets), "hypervolume": hypervolume(nets, reference)}
                for name, nets, total in sides
            ]
        )
    )
    print(f"reference: 100% of the largest net's {cost}, loss {reference[1]:.4f}")
    rows = [
        {
            f"max_{cost}": limit,
            "share, front": points[limit][0],
            "share, separate": separate[limit][0],
            "test loss, front": points[limit][1],
            "test loss, separate": separate[limit][1],
        }
        for limit in separate
        if limit in points
    ]
    if rows:
        print(format_table(rows))


def _read(path: Path, what: str) -> dict:
    if not path.exists():
        raise ValueError(f"{path.parent} is not {what}: {path.name} is missing")
    return read_results(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", type=Path, required=True, metavar="RUN", help="run with --pareto")
    parser.add_argument(
        "--separate", type=Path, nargs="+", required=True, metavar="RUN", help="runs with one budget each"
    )
    arguments = parser.parse_args(sys.argv[1:])
    with readable_errors():
        main(arguments.front, arguments.separate)
