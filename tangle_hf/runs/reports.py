"""What a search leaves and prints at its end."""

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import PreTrainedModel

from ..analysis import format_table, plot_losses, read_metrics
from ..arch_parameters import one_hot
from ..cost.kinds import COSTS
from ..data.examples import Examples
from ..hub.cards import write_card
from ..hub.publishing import push
from ..hub.settings import hub_options
from ..messages import format_lines
from ..models.generation import with_pad_token
from ..search import SearchArguments
from ..space import Architecture
from ..subnets.exports import Export, export
from .closing import next_steps
from .folder import write_json
from .found import Found, FoundFront
from .front_report import report_front
from .latency import compare_latency
from .reporting import track_report
from .results import common_results, cost_text, table_row
from .run import Run


def report(run: Run, supernet: PreTrainedModel, examples: Examples, found: Found | FoundFront) -> None:
    """Leaves what was found, the supernet and their cards, prints the table, and publishes if the settings say so.

    Args:
        run: The run, of whose processes only the main one calls this.
        supernet: After the search.
        examples: How nets are tested.
        found: What `find` returned.

    Raises:
        ValueError: The export does not compute what the supernet computes.
    """
    used, folder = run.used(), run.folder
    if isinstance(found, Found):  # before anything is saved: all exports read the same statistics
        examples.settle(supernet, run.settings.per_device_batch_size, mixture=one_hot(supernet.space, found.arch))
    supernet.save_pretrained(folder / "supernet")
    with_pad_token(examples.processor).save_pretrained(folder / "supernet")
    plot_losses(read_metrics(folder / "metrics.jsonl"), folder / "losses.png")
    if isinstance(found, Found):
        (folder / "architecture.json").write_text(found.arch.to_json() + "\n")
        by_budget = supernet.space.ordered and not run.settings.resolved_method.two_stage

        def more(written: Export) -> dict[str, str]:
            return next_steps(folder, written, examples, by_budget)

        results = report_net(run.settings, supernet, examples, found, used, folder / "subnet", more)
        write_json(folder / "results.json", results)
    else:
        report_front(run, supernet, examples, found, used)
    for name in ("subnet", "supernet"):
        if (folder / name).is_dir():
            write_card(folder, folder / name, license=run.hub.license)
    run.refresh_report(now=True)
    track_report(folder, run.accelerator)
    if run.hub.push_to_hub:
        for repo_id, of_supernet in run.targets():
            print(f"published: {push(folder, repo_id, supernet=of_supernet, **hub_options(run.hub))}")


def report_net(
    settings: SearchArguments,
    supernet: PreTrainedModel,
    examples: Examples,
    found: Found,
    used: Mapping[str, float | str],
    folder: Path,
    more: Callable[[Export], Mapping[str, str]],
    form: str = "auto",
) -> dict:
    """Exports what was found, tests it and prints the table.

    Args:
        settings: Those of the search.
        supernet: After the search.
        examples: How nets are tested.
        found: What it found.
        used: Device, and if known seconds.
        folder: Where the net goes.
        more: The export -> what else is said of it.
        form: Its form, as `export` takes it.

    Returns:
        What `results.json` says of the search.

    Raises:
        ValueError: The net does not have the form, or the export does not compute what the supernet computes.
    """
    space, arch, rows = supernet.space, found.arch, []

    def row(name: str, of: Architecture, model: PreTrainedModel, **chosen) -> None:
        scores = examples.score(model, examples.test, settings.per_device_batch_size, **chosen)
        rows.append(table_row(name, supernet, of, examples, scores))

    (sample,) = examples.inputs(examples.test, 1, examples.sample_size)
    inputs = {name: values.to(supernet.device) for name, values in sample.items()}
    written = export(supernet, arch, folder, inputs, form, processor=examples.processor)
    subnet = supernet.auto_model.from_pretrained(written.folder, trust_remote_code=written.form == "compact")
    subnet.to(supernet.device)
    row("found, in the supernet", arch, supernet, mixture=one_hot(space, arch))
    row(f"found, exported ({written.form})", arch, subnet)
    if space.ordered:
        row("largest, in the supernet", space.largest, supernet, arch=space.largest)
    print(format_table(rows))
    if space.ordered:
        print(
            "in the supernet: with the weights that all nets share; trained by itself, the largest net would be better"
        )
    results = common_results(supernet, found, examples, used)
    results |= {"found": arch.to_dict(), "form": written.form}
    results |= {"logit_difference": written.difference, "logit_scale": written.scale, **found.results, "table": rows}
    notation = examples.notation(arch)
    results |= {} if notation is None else {"notation": notation}
    if settings.latency_table is not None:
        timed = {"found, exported": (arch, subnet), **({"largest": (space.largest, None)} if space.ordered else {})}
        limit_ms = found.results["budgets"].get("max_latency_ms")
        results["latency"] = compare_latency(supernet, timed, settings, examples.sequence_length, limit_ms)
    shown = supernet.by_position(arch)
    print(format_lines(_summary(results, shown, written, examples) | more(written)))
    return results


def _summary(results: dict, arch: Architecture, written: Export, examples: Examples) -> dict[str, str]:
    """What was found, how surely, at which cost, and how exactly it was exported."""
    lines = {"found": str(arch)}
    if "notation" in results:
        lines["notation"] = results["notation"]
    if "entropy" in results:
        lines["entropy"] = f"{results['entropy']:.3f} of the architecture parameters (1: undecided, 0: decided)"
    else:
        lines["candidates"] = (
            f"the best of {results['candidates_evaluated']:,}, each evaluated on "
            f"{results['candidate_examples']:,} {examples.example}s"
        )
    lines["search cost"] = cost_text(results)
    lines |= budget_lines(results["budgets"], examples.example)
    difference = f"logits differ by {written.difference:.1e} of {written.scale:.1e} at most"
    return lines | {"check": f"reloaded files against the supernet: {difference}"}


def budget_lines(used: Mapping[str, float], example: str) -> dict[str, str]:
    """For each budget what it allows and what is used."""
    lines = {}
    for name, cost in COSTS.items():
        if f"max_{name}" not in used:
            continue
        limit, arch, expectation = (used.get(f"{kind}_{name}") for kind in ("max", "arch", "expected"))
        words = cost.words.format(example=example)
        line = f"{arch:,} of {limit:,} {words} used ({arch / limit:.1%})"
        if expectation is not None:
            line += f"; expected under the shares {expectation:,.{cost.digits}f} ({expectation / limit:.1%})"
        lines[f"max_{name}"] = line
    return lines
