"""Model cards of nets that were trained after their search, from what `recipes/finetune.py` has left."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..analysis import format_cell
from ..run_files import read_results, read_settings, run_kind
from .card_facts import has_remote_code, public, settings_text
from .front_matter import front_matter, hub_name


# Key of a score in a row -> column of the card (`front_matter.METRICS`), and what the score is multiplied by.
COLUMNS = {"loss": ("test loss", 1), "perplexity": ("perplexity", 1), "accuracy": ("accuracy in %", 100)}


def is_finetuning(run_dir: str | Path) -> bool:
    """Whether a folder is a run of fine-tuning or of a compression, whose nets have rows, and not of a search.

    Raises:
        ValueError: The folder has no readable `config.yaml`, or it is neither of them but a comparison or a table.
    """
    settings = read_settings(run_dir)
    known = ({"method"}, {"checkpoint", "mode"}, {"checkpoint", "calibration_examples"})
    if not any(names <= settings.keys() for names in known):
        raise ValueError(
            f"{run_dir} is no search, fine-tuning or compression, whose nets have cards; give one of these"
        )
    return "method" not in settings


def trained_net(run_dir: str | Path) -> Path:
    """The folder of the only net that a run of fine-tuning has trained.

    Raises:
        ValueError: There is none, or there are several.
    """
    run_dir = Path(run_dir)
    found = [folder for folder in sorted(run_dir.glob("*")) if row_file(run_dir, folder).is_file()]
    found = [folder for folder in found if (folder / "config.json").is_file()]
    if not found:
        raise ValueError(
            f"{run_dir} has no net that fine-tuning has finished; finish it with --resume, in another mode than inherit"
        )
    if len(found) > 1:
        folders = ", ".join(str(folder) for folder in found)
        raise ValueError(f"{run_dir} has {len(found)} nets; choose one with --folder: {folders}")
    return found[0]


def finetuned_facts(run_dir: Path, folder: Path, license: str | None) -> dict[str, Any]:
    """What the template `finetuned.md.jinja` shows of a net.

    Args:
        run_dir: The run.
        folder: The net, in it.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.

    Raises:
        ValueError: The folder is no finished net of the run, or the run is older than its cards.
    """
    if not (folder / "config.json").is_file() or not row_file(run_dir, folder).is_file():
        raise ValueError(f"{folder} is no net that the fine-tuning in {run_dir} has finished; finish it with --resume")
    settings, results = read_settings(run_dir), read_results(run_dir / "results.json")
    if "pipeline" not in results:
        raise ValueError(
            f"{run_dir}/results.json is older than cards of fine-tuned nets; run the same command with --resume, which "
            "trains nothing again"
        )
    return _facts(folder, settings, results, read_results(row_file(run_dir, folder)), license)


def _facts(
    folder: Path, settings: Mapping[str, Any], results: Mapping[str, Any], row: Mapping[str, Any], license: str | None
) -> dict[str, Any]:
    scores = {COLUMNS[key][0]: COLUMNS[key][1] * value for key, value in row["test"].items()}
    tested = {"net": folder.name, "parameters": row["parameters"], **scores}
    base, origin = hub_name(settings["checkpoint"]), _origin(settings["checkpoint"], folder)
    own = {**settings, "mode": [row["mode"]], "seeds": [row["seed"]]}  # others may have joined the run later
    return {
        "front_matter": front_matter(
            "finetuned", folder.name, settings, results, base, license, [tested], origin is not None
        ),
        "origin": origin,
        "title": folder.name,
        "pipeline": results["pipeline"],
        "parameters": format_cell(row["parameters"]),
        "mode": row["mode"],
        "seed": row["seed"],
        "data": results["data"],
        "checkpoint": base or public(str(Path(settings["checkpoint"]).resolve())),
        "remote_code": has_remote_code(folder),
        "results": [tested],
        "command": public(row.get("command", results["command"])),
        "settings": settings_text(own),
        "license": license,
    }


def _origin(checkpoint: str, folder: Path) -> str | None:
    """What found the architecture: "search", "compress", "unknown" where it was one of them, None where neither was."""
    known = (Path(checkpoint) / "architecture.json").is_file()
    with suppress(ValueError):  # its folder is no run
        run_dir = Path(checkpoint).resolve().parent
        kind = run_kind(run_dir, read_settings(run_dir))
        if known and kind in ("search", "compress"):
            return kind
    compact = str(read_results(folder / "config.json").get("model_type")).startswith("tangle_")
    return "unknown" if known or compact else None


def row_file(run_dir: Path, folder: Path) -> Path:
    """Where the row of a net of a run stands."""
    return run_dir / "rows" / f"{folder.resolve().name}.json"
