"""What the Hub reads of a model card: the YAML at its top."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData


# Column of a run's table -> type of the metric for the Hub, name, value as the Hub has it.
METRICS = {
    "test loss": ("loss", "loss in nats", 1.0),
    "perplexity": ("perplexity", "perplexity per token", 1.0),
    "accuracy in %": ("accuracy", "accuracy", 0.01),
}


def front_matter(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    base_model: str | None,
    license: str | None,
    tested: Sequence[Mapping[str, Any]],
    found: bool = True,
) -> str:
    """The YAML of a card, without its dashes.

    Args:
        kind: "subnet", "supernet" or "finetuned", a tag of the repository.
        name: The model's name beside its results.
        settings: All settings of the run.
        results: The run's results: its "pipeline" and "data".
        base_model: The model on the Hub that the weights come from, if any.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.
        tested: Rows with test scores, by the columns of `METRICS`.
        found: Whether the architecture was found by this library.
    """
    dataset = hub_name(settings.get("dataset"))
    scores = [(column, row[column]) for row in tested for column in METRICS if column in row]
    methods = ["neural-architecture-search", "weight-entanglement", "arxiv:2312.10440"] if found else []
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
        for column, value in scores
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=results["pipeline"],
        tags=["tangle_hf", kind, *methods],
        license=license,
        datasets=[dataset] if dataset else None,
        base_model=base_model,
        metrics=[METRICS[column][0] for column, _ in scores if METRICS[column][0] != "loss"] or None,
        model_name=name if evaluations else None,
        eval_results=evaluations or None,
    ).to_yaml()


def hub_name(name: str | None) -> str | None:
    """A data set's or checkpoint's name if it is one on the Hub and no local path."""
    if name is None or Path(name).expanduser().exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        return None
    return name
