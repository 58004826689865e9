"""Model cards of a run: what was found, how to load it, what it cost and what was not measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
import yaml
from huggingface_hub import ModelCard
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..analysis import format_cell, plot_architecture, plot_losses, plot_shares, read_metrics
from ..cost.counts import parameter_entries
from ..cost.tables import of_largest, tabulate
from ..models.loading import supernet_class
from ..space import Architecture
from .card_facts import has_remote_code, public, search_facts, settings_text, space_facts, subnet_facts
from .front_matter import front_matter, hub_name


# Stands for the model's name in the card's code; `push` puts the repository in its place.
LOCAL_NAME = "path/to/this/folder"


def write_card(run_dir: str | Path, folder: str | Path | None = None, *, license: str | None = None) -> Path:
    """Writes `README.md` and its pictures into an exported net or the supernet of a finished run.

    An earlier card there is replaced.

    Args:
        run_dir: Folder of the run, with `config.yaml`, `metrics.jsonl`, `results.json` and `supernet/`.
        folder: `run_dir/supernet`, or an export of this run; default: `run_dir/subnet`. Test results are shown where its
            architecture is the one that the run found.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.

    Returns:
        The card's path.

    Raises:
        ValueError: The run is not finished, or the folder holds no model of it.
    """
    run_dir = Path(run_dir)
    folder = run_dir / "subnet" if folder is None else Path(folder)
    is_supernet = folder.resolve() == (run_dir / "supernet").resolve()
    _check(run_dir, folder, ("config.json",) if is_supernet else ("config.json", "architecture.json"))
    settings = yaml.safe_load((run_dir / "config.yaml").read_text())
    results = json.loads((run_dir / "results.json").read_text())
    family = supernet_class(run_dir / "supernet")
    config = family.config_class.from_pretrained(run_dir / "supernet")
    arch = Architecture(results["found"]) if "found" in results else None
    if not is_supernet:
        arch = Architecture.from_json((folder / "architecture.json").read_text())
        config.space.validate(arch)
    facts = {
        **search_facts(settings, results),
        **space_facts(config.space, arch),
        "repo": LOCAL_NAME,
        "pipeline": results["pipeline"],
        "stock_class": config.architectures[0],
        "elastic_class": family.__name__,
        "auto_class": family.auto_model.__name__,
        "license": license,
    }
    if is_supernet:
        kind, title = "supernet", f"{run_dir.name}: supernet"
        largest = of_largest(tabulate(config.space, parameter_entries(config)))
        facts |= {"parameters": format_cell(largest), "ordered": config.space.ordered, "results": results["table"]}
        facts |= {"in_transformers": hasattr(transformers, config.architectures[0])}
        tested = [row for row in results["table"] if row["net"].startswith("largest")]
    else:
        kind, title = "subnet", f"{run_dir.name}: {'found net' if folder.name == 'subnet' else folder.name}"
        facts |= subnet_facts(family, config, arch, folder, results)
        tested = [row for row in facts["results"] if row["net"].startswith("found, exported")]
    base = hub_name(settings.get("start_from"))
    header = front_matter(kind, run_dir.name, settings, results, base, license, tested)
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, folder / "losses.png")
    if facts["shares_picture"]:
        plot_shares(metrics, config.space.choices, folder / "shares.png")
    if arch is not None:
        plot_architecture(arch, config.space, folder / "architecture.png")
    return _write(folder, kind, {"front_matter": header, "title": title, **facts})


def write_finetuned_card(
    folder: str | Path,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    scores: Mapping[str, float],
    *,
    license: str | None = None,
) -> Path:
    """Writes `README.md` for a net that was trained after its search.

    Args:
        folder: The model, as `save_pretrained` left it.
        settings: All settings of the training, "checkpoint" and "dataset" among them.
        results: "pipeline", "data" and "command" as in a search's `results.json`; "mode", "seed" and "parameters".
        scores: Test scores, by the names of `card_front_matter.METRICS`.
        license: As in `write_card`.

    Returns:
        The card's path.
    """
    folder = Path(folder)
    row = {"net": folder.name, "parameters": results["parameters"], **scores}
    base = hub_name(settings["checkpoint"])
    facts = {
        "front_matter": front_matter("finetuned", folder.name, settings, results, base, license, [row]),
        "title": folder.name,
        "pipeline": results["pipeline"],
        "parameters": format_cell(results["parameters"]),
        "mode": results["mode"],
        "seed": results["seed"],
        "data": results["data"],
        "checkpoint": base or public(str(Path(settings["checkpoint"]).resolve())),
        "repo": LOCAL_NAME,
        "remote_code": has_remote_code(folder),
        "results": [row],
        "command": public(results["command"]),
        "settings": settings_text(settings),
        "license": license,
    }
    return _write(folder, "finetuned", facts)


def _write(folder: Path, kind: str, facts: Mapping[str, Any]) -> Path:
    environment = Environment(
        loader=PackageLoader("tangle_hf.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda value: format_cell(value).replace("|", "\\|")
    text = environment.get_template(f"{kind}.md.jinja").render(facts)
    partial = folder / ".README.md"
    ModelCard(text.strip() + "\n").save(partial)
    return partial.replace(folder / "README.md")


def _check(run_dir: Path, folder: Path, exported: Sequence[str]) -> None:
    needed = ("config.yaml", "metrics.jsonl", "results.json", "supernet/config.json")
    if missing := [name for name in needed if not (run_dir / name).is_file()]:
        raise ValueError(f"{run_dir} is not a finished run: {', '.join(missing)} missing; finish it with --resume")
    if missing := [name for name in exported if not (folder / name).is_file()]:
        raise ValueError(f"{folder} is no export of {run_dir}: {', '.join(missing)} missing")
