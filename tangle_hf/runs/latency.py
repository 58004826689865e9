"""The latency of a run: its table, given or measured at the start, and predicted beside measured times at the end."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.latency_profiles import compare, profile, usual_form
from ..cost.latency_tables import load_latency_table, save_latency_table
from ..cost.timing import build_nets, measure
from ..models.example_inputs import example_inputs
from ..search import SearchArguments
from ..search.limits import Limits, check_latency
from ..space import Architecture


OWN = "latency_table.json"  # in the folder of a run


def without_latency(settings: SearchArguments) -> SearchArguments:
    """The settings without what is asked of latency; subnets are trained uniformly if they had no other budget."""
    others = {"pareto": None, "pareto_anchors": None} if settings.pareto == "latency_ms" else {}
    if settings.given_limits() == ["max_latency_ms"]:
        others |= {"path_sampling": "uniform"}
    if (
        settings.limits_latency
        and {*settings.given_limits()} <= {"max_latency_ms"}
        and settings.pareto in (None, "latency_ms")
    ):
        others |= {"finalists": None, "random_finalists": 0}  # they would have no budget to use
    if settings.nsga2_cost == "latency_ms":
        others |= {"nsga2_cost": "params"}
    return replace(
        settings,
        max_latency_ms=None,
        latency_table=None,
        latency_batch_size=1,
        allow_other_latency_table=False,
        **others,
    )


def with_latency_table(
    supernet: PreTrainedModel, settings: SearchArguments, accelerator: Accelerator, sequence_length: int | None
) -> tuple[SearchArguments, Limits]:
    """The settings with the run's own latency table, `latency_table.json` in its folder, and the limits with it.

    A new run copies the table that it is given, or measures one. A resumed run goes on with its own, so that it
    continues exactly. Nothing is left in the folder of a run that is refused.

    Args:
        supernet: What is searched.
        settings: The search's, which limit or note latency.
        accelerator: The main process measures, the others wait.
        sequence_length: Tokens of an example.

    Raises:
        ValueError: A table is missing or was measured under other conditions, or no architecture keeps to the budgets.
    """
    own = Path(settings.output_dir) / OWN
    known = own.exists()  # left by somebody, who may want it
    if settings.resume:
        settings = replace(settings, latency_table=str(own))
    if settings.latency_table is not None:
        given = load_latency_table(settings.latency_table)
        check_latency(given, settings, supernet, sequence_length, accelerator.device)
    if accelerator.is_main_process and not settings.resume:
        if settings.latency_table is None:
            supernet.to(accelerator.device)
            table = profile(supernet, batch_size=settings.latency_batch_size, sequence_length=sequence_length)
        else:
            table = given
        save_latency_table(table, own)
    accelerator.wait_for_everyone()
    settings = replace(settings, latency_table=str(own))
    try:
        limits = Limits.of(settings, supernet, sequence_length)
        limits.check(settings, supernet)
    except ValueError:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not known:
            own.unlink()
            with suppress(OSError):  # of a folder that holds something else
                own.parent.rmdir()
        raise
    return settings, limits


def compare_latency(
    supernet: PreTrainedModel,
    nets: dict[str, tuple[Architecture, PreTrainedModel | None]],
    settings: SearchArguments,
    sequence_length: int | None,
    limit_ms: float | None,
) -> dict:
    """Times nets and prints predicted beside measured milliseconds.

    Args:
        supernet: After the search.
        nets: Name -> architecture, and its exported model where there is one.
        settings: With the run's latency table.
        sequence_length: Tokens of an example.
        limit_ms: The budget, which holds for the prediction; a first net that is measured above it is remarked on.

    Returns:
        What was printed, with the conditions and the limit, for `results.json`.
    """
    table = load_latency_table(settings.latency_table)
    inputs = example_inputs(supernet, batch_size=settings.latency_batch_size, sequence_length=sequence_length)
    # What was not exported is built like the nets of the table, and shows how the machine has changed since.
    form = usual_form(supernet)
    models = [build_nets(supernet, [arch], form)[0] if model is None else model for arch, model in nets.values()]
    times = measure(models, inputs, progress=False)
    found = {name: compare(table, arch, ms) for (name, (arch, _)), ms in zip(nets.items(), times, strict=True)}
    rows = [
        {
            "latency": name,
            "predicted ms": e["predicted_ms"],
            "measured ms": e["measured_ms"],
            "error": f"{e['error']:+.1%}",
        }
        for name, e in found.items()
    ]
    kept = table.conditions
    length = "" if kept["sequence_length"] is None else f" of {kept['sequence_length']} tokens"
    print(
        f"{format_table(rows)}\nlatency of a batch of {kept['batch_size']}{length}, {kept['dtype']}, on "
        f"{kept['device_name']}, threads of PyTorch: {kept['threads']}"
    )
    name, first = next(iter(found.items()))
    if limit_ms is not None and first["measured_ms"] > limit_ms:
        print(
            f"{name}: measured {first['measured_ms']:.4g} ms are more than the {limit_ms:.4g} that the prediction keeps to; "
            "the machine may be busier than when the table was measured (compare the largest net)"
        )
    return {"limit_ms": limit_ms, "nets": found, "conditions": dict(kept)}
