"""Model cards of a run: what was found, how to load it, what it cost and what was not measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import ModelCard
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..analysis import format_cell, plot_architecture, plot_losses, plot_shares, read_metrics
from ..cost.counts import parameter_entries
from ..cost.tables import of_largest, tabulate
from ..models.layer_ranks import by_position
from ..models.loading import supernet_class
from ..run_files import read_results, read_settings, run_kind
from ..space import Architecture
from ..subnets.exports import read_architecture
from .card_facts import search_facts, space_facts, subnet_facts
from .compressed_cards import compressed_facts
from .finetuned_cards import finetuned_facts, is_finetuning, trained_net
from .front_matter import front_matter, hub_name


# Stands for the model's name in the card's code; `push` puts the repository in its place.
LOCAL_NAME = "path/to/this/folder"
RESOLVED = "resolved.json"  # in an export for another budget: its own results


def write_card(run_dir: str | Path, folder: str | Path | None = None, *, license: str | None = None) -> Path:
    """Writes `README.md` and its pictures into an exported net or the supernet of a finished search, or into a trained net.

    An earlier card there is replaced.

    Args:
        run_dir: Folder of the search, with `config.yaml`, `metrics.jsonl`, `results.json` and `supernet/`, of a
            fine-tuning or of a compression.
        folder: `run_dir/supernet`, or an export of this run; default: `run_dir/subnet`. Test results are shown where its
            architecture is the one that the run found. Of a fine-tuning: a net in it; default: the only one.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.

    Returns:
        The card's path.

    Raises:
        ValueError: The run is not finished, or the folder holds no model of it.
    """
    run_dir = Path(run_dir)
    folder = card_folder(run_dir) if folder is None else Path(folder)
    if is_finetuning(run_dir):
        compressed = run_kind(run_dir, read_settings(run_dir)) == "compress"
        kind, facts = ("compressed", compressed_facts) if compressed else ("finetuned", finetuned_facts)
        return _write(folder, kind, {"repo": LOCAL_NAME, **facts(run_dir, folder, license)})
    run_name = run_dir.resolve().name
    is_supernet = folder.resolve() == (run_dir / "supernet").resolve()
    _check(run_dir, folder, ("config.json",) if is_supernet else ("config.json", "architecture.json"))
    settings, results = read_settings(run_dir), read_results(run_dir / "results.json")
    if not is_supernet and (folder / RESOLVED).is_file():
        results |= read_results(folder / RESOLVED)
    family = supernet_class(run_dir / "supernet")
    config = family.config_class.from_pretrained(run_dir / "supernet")
    arch = Architecture(results["found"]) if "found" in results else None
    if not is_supernet:
        arch = read_architecture(folder / "architecture.json")
        config.space.validate(arch)
    ranks = getattr(config, "layer_ranks", None)
    shown = None if arch is None else by_position(arch, config.space, ranks)
    facts = {
        **search_facts(settings, results),
        **space_facts(config.space, shown),
        "ranked": ranks is not None,
        "repo": LOCAL_NAME,
        "pipeline": results["pipeline"],
        "stock_class": config.architectures[0],
        "elastic_class": family.__name__,
        "auto_class": family.auto_model.__name__,
        "license": license,
    }
    if is_supernet:
        kind, title = "supernet", f"{run_name}: supernet"
        largest = of_largest(tabulate(config.space, parameter_entries(config)))
        facts |= {"parameters": format_cell(largest), "ordered": config.space.ordered, "results": results["table"]}
        facts |= {"in_transformers": hasattr(transformers, config.architectures[0])}
        tested = [row for row in results["table"] if row["net"].startswith("largest")]
    else:
        kind, title = (
            "subnet",
            f"{run_name}: {'found net' if folder.resolve().name == 'subnet' else folder.resolve().name}",
        )
        facts |= subnet_facts(family, config, arch, folder, results)
        tested = [row for row in facts["results"] if row["net"].startswith("found, exported")]
    base = hub_name(settings.get("start_from"))
    header = front_matter(kind, run_name, settings, results, base, license, tested)
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, folder / "losses.png")
    if facts["shares_picture"]:
        plot_shares(metrics, config.space.choices, folder / "shares.png")
    if shown is not None:
        plot_architecture(shown, config.space, folder / "architecture.png")
    return _write(folder, kind, {"front_matter": header, "title": title, **facts})


def card_folder(run_dir: str | Path) -> Path:
    """The net of a run that has a card where none is named: `subnet/` of a search, the only one of a fine-tuning.

    Raises:
        ValueError: The folder is no run, or there are several nets.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ValueError(f"there is no folder {run_dir}")
    if not (run_dir / "config.yaml").is_file():
        what = "a model" if (run_dir / "config.json").is_file() else "no run: it has no config.yaml"
        raise ValueError(f"{run_dir} is {what}; give the folder of the run, and this or another net of it as --folder")
    return trained_net(run_dir) if is_finetuning(run_dir) else run_dir / "subnet"


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
    needed = ("metrics.jsonl", "results.json", "supernet/config.json")
    if missing := [name for name in needed if not (run_dir / name).is_file()]:
        raise ValueError(f"{run_dir} is not a finished run: {', '.join(missing)} missing; finish it with --resume")
    if missing := [name for name in exported if not (folder / name).is_file()]:
        raise ValueError(f"{folder} is no export of {run_dir}: {', '.join(missing)} missing")
