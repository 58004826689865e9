"""Model cards of a run: what was found, how to load it, what it cost and what was not measured."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from transformers import PreTrainedConfig, PreTrainedModel

from .analysis import format_cell, plot_architecture, plot_losses, plot_shares, read_metrics
from .cost import num_params
from .models.loading import supernet_class
from .search.methods import METHODS
from .space import Architecture, SearchSpace


# Stands for the model's name in the card's code; `push` puts the repository in its place.
LOCAL_NAME = "path/to/this/folder"

# Column of a run's table -> type of the metric for the Hub, name, value as the Hub has it.
METRICS = {
    "test loss": ("loss", "loss in nats", 1.0),
    "perplexity": ("perplexity", "perplexity per token", 1.0),
    "accuracy in %": ("accuracy", "accuracy", 0.01),
}

# What a found net would have to be compared with; a row of the run's table whose name has the word is such a run.
BASELINES = {
    "largest": "the largest net of the space",
    "random": "random nets of the same size",
    "from scratch": "the same architecture trained from scratch",
    "other methods": "other search methods",
}


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
        **_search_facts(run_dir, settings, results),
        **_space_facts(config.space, arch),
        "repo": LOCAL_NAME,
        "pipeline": results["pipeline"],
        "stock_class": config.architectures[0],
        "elastic_class": family.__name__,
        "auto_class": family.auto_model.__name__,
        "license": license,
    }
    if is_supernet:
        kind, title = "supernet", f"{run_dir.name}: supernet"
        facts |= {"parameters": format_cell(num_params(config.space, config.space.largest, config))}
        facts |= {"results": results["table"]}
        tested = [row for row in results["table"] if row["net"].startswith("largest")]
    else:
        kind, title = "subnet", f"{run_dir.name}: {'found net' if folder.name == 'subnet' else folder.name}"
        facts |= _subnet_facts(family, config, arch, folder, results)
        tested = [row for row in facts["results"] if row["net"].startswith("found, exported")]
    base = hub_name(settings.get("start_from"))
    front_matter = _front_matter(kind, run_dir.name, settings, results, base, license, tested)
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, folder / "losses.png")
    if facts["shares_picture"]:
        plot_shares(metrics, config.space.choices, folder / "shares.png")
    if arch is not None:
        plot_architecture(arch, config.space, folder / "architecture.png")
    return _write(folder, kind, {"front_matter": front_matter, "title": title, **facts})


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
        scores: Test scores, by the names of `METRICS`.
        license: As in `write_card`.

    Returns:
        The card's path.
    """
    folder = Path(folder)
    row = {"net": folder.name, "parameters": results["parameters"], **scores}
    base = hub_name(settings["checkpoint"])
    facts = {
        "front_matter": _front_matter("finetuned", folder.name, settings, results, base, license, [row]),
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
        "settings": _settings_text(settings),
        "license": license,
    }
    return _write(folder, "finetuned", facts)


def _write(folder: Path, kind: str, facts: Mapping[str, Any]) -> Path:
    environment = Environment(
        loader=PackageLoader("tangle_hf"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
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


def _front_matter(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    base_model: str | None,
    license: str | None,
    tested: Sequence[Mapping[str, Any]],
) -> str:
    """What the Hub reads: the YAML of the card, without its dashes."""
    dataset = hub_name(settings.get("dataset"))
    found = [(column, row[column]) for row in tested for column in METRICS if column in row]
    evaluations = [
        EvalResult(
            task_type=results["pipeline"],
            dataset_type=dataset or "local",
            dataset_name=results["data"],
            dataset_split="test",
            metric_type=METRICS[column][0],
            metric_name=METRICS[column][1],
            metric_value=round(value * METRICS[column][2], 6),
        )
        for column, value in found
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=results["pipeline"],
        tags=["tangle_hf", kind, "neural-architecture-search", "weight-entanglement", "arxiv:2312.10440"],
        license=license,
        datasets=[dataset] if dataset else None,
        base_model=base_model,
        metrics=[METRICS[column][0] for column, _ in found if METRICS[column][0] != "loss"] or None,
        model_name=name if evaluations else None,
        eval_results=evaluations or None,
    ).to_yaml()


def hub_name(name: str | None) -> str | None:
    """A data set's or checkpoint's name if it is one on the Hub and no local path."""
    if name is None or Path(name).expanduser().exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        return None
    return name


def _search_facts(run_dir: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    used = results["search"]
    entropy = results.get("entropy")
    return {
        "command": public(results["command"]),
        "data": results["data"],
        "method": settings["method"],
        "superposition": settings.get("superposition", "inputs"),  # convolutional nets have no other
        "candidates": format_cell(results["candidates_evaluated"]) if "candidates_evaluated" in results else None,
        "search_cost": format_cell(results["search_cost"]),
        "steps": format_cell(settings["max_steps"]),
        "seed": settings["seed"],
        "seconds": _clock(used["seconds"]) if "seconds" in used else None,
        "cpu_seconds": _clock(used["cpu_seconds"]) if "seconds" in used else None,
        "device": used["device"],
        "entropy": None if entropy is None else f"{entropy:.2f}",
        # A front has shares for each of its anchors.
        "shares_picture": not METHODS[settings["method"]].two_stage and settings.get("pareto") is None,
        "settings": _settings_text(settings),
        "budgets": _budget_rows(results.get("budgets") or {}),
    }


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _settings_text(settings: Mapping[str, Any]) -> str:
    """YAML of the settings that say how the weights came about."""
    hidden = ("resume", "dry_run", "push_to_hub", "license")
    shown = {k: v for k, v in settings.items() if v is not None and k not in hidden and not k.startswith("hub_")}
    return public(yaml.safe_dump(shown, sort_keys=False, default_flow_style=None).strip())


def public(text: str) -> str:
    """A text in which absolute paths have lost their folders, which are nobody's business."""
    return re.sub(r"(?<![\w./:~])~?/(?:[^/\s'\"]+/)*", "", text)


def _space_facts(space: SearchSpace, arch: Architecture | None) -> dict[str, Any]:
    rows = []
    for name, choices in space.choices.items():
        chosen = "once"
        if name in space.per_layer:
            per = "per stage" if name == space.depth_name else "per layer"
            chosen = per if space.depth_name else f"{space.rows(name)} times"
        rows.append({"dimension": name, "choices": ", ".join(map(str, choices)), "chosen": chosen})
    layers = None if arch is None else layer_rows(arch, space)
    return {"size": f"{space.size:,}", "space": rows, "architecture": layers}


def layer_rows(arch: Architecture, space: SearchSpace) -> list[dict[str, str]]:
    """An architecture as a table: a row for the whole net, then a row for every layer that exists."""
    layered = [name for name in space.choices if name in space.per_layer and name != space.depth_name]
    whole = {name: "" if name in layered else _joined(value) for name, value in arch.to_dict().items()}
    rows = [{"layer": "whole net", **whole}]
    for layer in range(max((space.rows(name) for name in layered), default=0)):
        values = {name: value[layer] for name in layered if layer < len(value := getattr(arch, name))}
        if any(value is not None for value in values.values()):
            stage, number = divmod(layer, space.max_depth)
            label = f"{stage + 1}.{number + 1}" if space.stages > 1 else str(layer + 1)
            rows.append({"layer": label, **dict.fromkeys(whole, ""), **{n: str(v) for n, v in values.items()}})
    return rows


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _subnet_facts(
    family: type[PreTrainedModel],
    config: PreTrainedConfig,
    arch: Architecture,
    folder: Path,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    reasons = family.subnet_forms(config, arch)
    form = form_of(folder, reasons)
    table = results["table"] if results.get("found") == arch.to_dict() else []
    latency = results.get("latency") if table else None
    words = [word for word in BASELINES if any(word in row["net"] for row in table)]
    return {
        "form": form,
        "forms": [
            {"form": name, "exists": "this one" if name == form else "yes" if reason is None else f"no: {reason}"}
            for name, reason in reasons.items()
        ],
        "parameters": format_cell(num_params(config.space, arch, config)),
        "architecture_json": arch.to_json(),
        "results": table,
        "logit_difference": f"{results.get('logit_difference', 0):.1e}",
        "logit_scale": f"{results.get('logit_scale', 0):.1e}",
        "run": [BASELINES[word] for word in words],
        "not_run": [name for word, name in BASELINES.items() if word not in words],
        "latency": _latency_rows(latency) if latency else None,
        "latency_conditions": _conditions(latency["conditions"]) if latency else None,
    }


def form_of(folder: str | Path, reasons: Mapping[str, str | None]) -> str:
    """The form of an exported net: "stock", "padded" or "compact".

    Args:
        folder: What `export` wrote.
        reasons: `subnet_forms` of its architecture.
    """
    if has_remote_code(folder):
        return "compact"
    return "stock" if reasons["stock"] is None else "padded"


def has_remote_code(folder: str | Path) -> bool:
    """Whether a saved model brings the code that builds it."""
    return "auto_map" in json.loads((Path(folder) / "config.json").read_text())


def _latency_rows(latency: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per net that was timed."""
    return [
        {
            "net": name,
            "predicted ms": float(net["predicted_ms"]),
            "measured ms": float(net["measured_ms"]),
            "error of the prediction": f"{net['error']:+.1%}",
        }
        for name, net in latency["nets"].items()
    ]


def _conditions(conditions: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in conditions.items() if v is not None and not isinstance(v, list)}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _rounded(cost: float) -> float:
    return round(cost) if cost > 1000 else cost


def _budget_rows(budgets: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row per budget, from the keys that `tangle_hf.search.choose.costs` writes."""
    names = [key.removeprefix("max_") for key in budgets if key.startswith("max_")]
    return [
        {
            "budget": name,
            "limit": budgets[f"max_{name}"],
            "this net": budgets[f"arch_{name}"],
            **(
                {"expected under the shares": _rounded(budgets[f"expected_{name}"])}
                if f"expected_{name}" in budgets
                else {}
            ),
        }
        for name in names
    ]
