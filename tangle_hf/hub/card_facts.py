"""What a run's files say, in the words and rows that a model card shows."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedConfig, PreTrainedModel

from ..analysis import format_cell
from ..cost.counts import num_params
from ..run_files import read_results
from ..search.finalists.settings import STARTS
from ..search.methods import METHODS
from ..search.settings import settings_not_read
from ..space import Architecture, SearchSpace


# Baselines of a found net. A row of the run's table whose name contains the word says that the baseline was run.
BASELINES = {
    "largest": "the largest net of the space",
    "random": "random nets of the same size",
    "from scratch": "the same architecture trained from scratch",
    "other methods": "other search methods",
    "hand cut": "nets with equal layers, cut by hand to the same budget",
}


# Dimensions whose name does not say what they are.
MEANINGS = {
    "mlp_ratio": "the hidden width of the MLP divided by the width of the net",
    "num_key_value_groups": "the query heads that share each of the `num_key_value_heads`",
}


def search_facts(settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """How the search was run and what it took, from `config.yaml` and `results.json`."""
    used = results["search"]
    entropy = results.get("entropy")
    return {
        "command": public(results["command"]),
        "data": results["data"],
        "method": settings["method"],
        "superposition": settings.get("superposition", "inputs"),  # convolutional nets have no other
        "candidates": format_cell(results["candidates_evaluated"]) if "candidates_evaluated" in results else None,
        "search_cost": format_cell(results["search_cost"]),
        "plain_net": "largest" if "largest" in results else "most expensive",  # a space of operations has no order
        "steps": format_cell(settings["max_steps"]),
        "seed": settings["seed"],
        "seconds": clock(used["seconds"]) if "seconds" in used else None,
        "cpu_seconds": clock(used["cpu_seconds"]) if "seconds" in used else None,
        "device": used["device"],
        "entropy": None if entropy is None else f"{entropy:.2f}",
        # A front has shares for each of its anchors.
        "shares_picture": not METHODS[settings["method"]].two_stage and settings.get("pareto") is None,
        "settings": settings_text(settings),
        "budgets": budget_rows(results.get("budgets") or {}),
    }


def clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def settings_text(settings: Mapping[str, Any]) -> str:
    """YAML of the settings that say how the weights came about."""
    hidden = ["resume", "dry_run", "push_to_hub", "license"]
    if settings.get("teacher", "of a search") is None:
        hidden += ["teacher_share", "teacher_temperature"]
    if settings.get("method") in METHODS:  # fine-tuning has none
        hidden += settings_not_read(METHODS[settings["method"]])
    shown = {k: v for k, v in settings.items() if v is not None and k not in hidden and not k.startswith("hub_")}
    return public(yaml.safe_dump(shown, sort_keys=False, default_flow_style=None).strip())


def public(text: str) -> str:
    """The text with absolute paths cut to their last part, as the folders of a machine are not for the public."""
    return re.sub(r"(?<![\w./:~])~?/(?:[^/\s'\"]+/)*", "", text)


def space_facts(space: SearchSpace, arch: Architecture | None) -> dict[str, Any]:
    """The choices of a space and, where there is one, an architecture, as tables."""
    rows = []
    for name, choices in space.choices.items():
        chosen = "once"
        if name in space.per_layer:
            per = "per stage" if name == space.depth_name else "per layer"
            chosen = per if space.depth_name else f"{space.rows(name)} times"
        rows.append({"dimension": name, "choices": ", ".join(map(str, choices)), "chosen": chosen})
    layers = None if arch is None else layer_rows(arch, space)
    meanings = {name: text for name, text in MEANINGS.items() if name in space.choices}
    return {"size": f"{space.size:,}", "space": rows, "meanings": meanings, "architecture": layers}


def layer_rows(arch: Architecture, space: SearchSpace) -> list[dict[str, str]]:
    """An architecture as a table: a row for the whole net, then a row for every layer that exists."""
    layered = space.of_layers
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


def subnet_facts(
    family: type[PreTrainedModel],
    config: PreTrainedConfig,
    arch: Architecture,
    folder: Path,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """The forms, size and measurements of an exported net; measurements only of the one that the run has tested.

    Args:
        family: The supernet's class.
        config: The supernet's config.
        arch: The architecture of the exported net.
        folder: What `export` wrote.
        results: The run's `results.json`.
    """
    reasons = family.subnet_forms(config, arch)
    form = form_of(folder, reasons)
    table = results["table"] if results.get("found") == arch.to_dict() else []
    latency = results.get("latency") if table else None
    finalists = results.get("finalists") if table else None
    names = [row["net"] for row in table] + [row["finalist"] for row in (finalists or {}).get("rows", ())]
    words = [word for word in BASELINES if any(word in name for name in names)]
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
        "finalists": finalist_facts(finalists) if finalists else None,
        "latency": latency_rows(latency) if latency else None,
        "latency_conditions": conditions_text(latency["conditions"]) if latency else None,
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
    return "auto_map" in read_results(Path(folder) / "config.json")


def latency_rows(latency: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def finalist_facts(finalists: Mapping[str, Any]) -> dict[str, Any]:
    """The short trainings that decided, from `results.json`."""
    noise = finalists["noise"]
    return {
        "rows": [{name: "" if value == "-" else value for name, value in row.items()} for row in finalists["rows"]],
        "start": STARTS[finalists["start"]],
        "noise": None if noise is None else f"{noise:.3f}",
        "seeded": finalists.get("seeded", 2),  # of earlier runs two, of each point of a front those that may be taken
        "cost": format_cell(finalists["cost"]),
        "changed": finalists["changed"],
    }


def conditions_text(conditions: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in conditions.items() if v is not None and not isinstance(v, list)}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _rounded(cost: float) -> float:
    return round(cost) if cost > 1000 else cost


def budget_rows(budgets: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row per budget, from the keys that `tangle_hf.search.choice.costs` writes."""
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
