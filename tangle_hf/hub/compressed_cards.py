"""Model cards of compressed nets, from what `recipes/compress.py` has left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..analysis import format_cell
from ..run_files import read_results, read_settings
from .card_facts import has_remote_code, public, settings_text
from .finetuned_cards import row_file
from .front_matter import front_matter, hub_name


def compressed_facts(run_dir: Path, folder: Path, license: str | None) -> dict[str, Any]:
    """What the template `compressed.md.jinja` shows of a net.

    Args:
        run_dir: The run.
        folder: The net, in it.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.

    Raises:
        ValueError: The folder is no finished net of the run.
    """
    path = row_file(run_dir, folder)
    if not (folder / "config.json").is_file() or not path.is_file() or not (run_dir / "results.json").is_file():
        raise ValueError(f"{folder} is no net that the compression in {run_dir} has finished; finish it with --resume")
    settings, results, row = read_settings(run_dir), read_results(run_dir / "results.json"), read_results(path)
    base, title = hub_name(settings["checkpoint"]), f"{run_dir.resolve().name}: {folder.resolve().name}"
    before, *_, after = row["table"]
    whose = "A net that was trained for it" if settings["checkpoint"] is None else public(str(results["checkpoint"]))
    limits = [name.removeprefix("max_") for name in row["budgets"] if name.startswith("max_")]
    return {
        "front_matter": front_matter("compressed", title, settings, results, base, license, [after]),
        "title": title,
        "pipeline": results["pipeline"],
        "checkpoint": base or whose,
        "parameters": format_cell(row["parameters"]),
        "share": f"{row['parameters'] / before['parameters']:.0%}",
        "layers_removed": ", ".join(str(layer + 1) for layer in row["layers_removed"]),
        "architecture": [{"size": name, "value": format_value(value)} for name, value in row["by_position"].items()],
        "budgets": [
            {"budget": name, "limit": row["budgets"][f"max_{name}"], "this net": row["budgets"][f"arch_{name}"]}
            for name in limits
        ],
        "table_rows": row["table"],
        "finalists": [{k: "" if v == "-" else v for k, v in line.items()} for line in row["finalists"]["rows"]],
        "costs": [{"part": name, "training steps of the checkpoint": cost} for name, cost in row["costs"].items()],
        "cost": format_cell(row["cost"]),
        "timed": f"a batch of {settings.get('latency_batch_size', 1)}",
        "teacher_share": settings["teacher_share"],
        "taught": settings["taught_ratio"],
        "steps": format_cell(settings["max_steps"]),
        "seed": row["seed"],
        "data": results["data"],
        "remote_code": has_remote_code(folder),
        "command": public(results["command"]),
        "settings": settings_text(settings),
        "license": license,
    }


def joint_table(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The checkpoint and all nets that were made of it, before and after their training, as one table.

    Args:
        rows: Name of the net -> what `rows/` has of it, at least one.
    """
    table = [next(iter(rows.values()))["table"][0]]
    for name, row in rows.items():
        table += [{**line, "net": f"{name}: {line['net']}"} for line in row["table"][1:]]
    return table


def format_value(value: Any) -> str:
    """A size, or one for each layer."""
    return ", ".join("-" if item is None else str(item) for item in value) if isinstance(value, list) else str(value)
