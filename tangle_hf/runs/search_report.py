"""What a search leaves and prints at its end."""

from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel

from ..analysis import format_table, plot_losses, read_metrics
from ..arch_parameters import one_hot
from ..cost.counts import num_params
from ..hub.settings import command_line
from ..search import SearchArguments
from ..space import Architecture
from ..subnets.exports import Export, export
from .folder import write_json
from .latency import compare_latency
from .task import Found, SearchTask


def save_supernet(supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments) -> None:
    """Leaves the supernet and the plot of its losses."""
    run_dir = Path(settings.output_dir)
    supernet.save_pretrained(run_dir / "supernet")
    task.processor.save_pretrained(run_dir / "supernet")
    plot_losses(read_metrics(run_dir / "metrics.jsonl"), run_dir / "losses.png")


def report(
    supernet: PreTrainedModel,
    found: Found,
    task: SearchTask,
    settings: SearchArguments,
    used: Mapping[str, float | str],
) -> None:
    """Leaves the subnet and the results, and prints the table.

    Args:
        supernet: After the search, settled.
        found: What it found.
        task: Data and scores.
        settings: The trainer's.
        used: On what device the search ran, and if known its seconds of wall clock and of this process on the CPU.
    """
    run_dir, space, arch = Path(settings.output_dir), supernet.space, found.arch
    rows = []

    def row(name: str, arch: Architecture, scores: dict[str, float]) -> None:
        rows.append(table_row(name, supernet, arch, task, scores))

    (run_dir / "architecture.json").write_text(arch.to_json() + "\n")
    inputs = {name: values.to(supernet.device) for name, values in task.sample.items()}
    written = export(supernet, arch, run_dir / "subnet", inputs, processor=task.processor)
    subnet = supernet.auto_model.from_pretrained(written.folder, trust_remote_code=written.form == "compact")
    subnet.to(supernet.device)
    row("found, in the supernet", arch, task.test(supernet, mixture=one_hot(space, arch)))
    row(f"found, exported ({written.form})", arch, task.test(subnet))
    if space.ordered:
        row("largest, in the supernet", space.largest, task.test(supernet, arch=space.largest))
    print("\n" + format_table(rows))
    results = common_results(supernet, found.cost, task, used)
    results |= {"found": arch.to_dict(), "form": written.form}
    results |= {"logit_difference": written.difference, "logit_scale": written.scale, **found.results, "table": rows}
    results |= {"notation": task.notation(arch)} if task.notation else {}
    if settings.latency_table is not None:
        timed = {"found, exported": (arch, subnet), **({"largest": (space.largest, None)} if space.ordered else {})}
        limit_ms = found.results["budgets"].get("max_latency_ms")
        results["latency"] = compare_latency(supernet, timed, settings, task.sequence_length, limit_ms)
    write_json(run_dir / "results.json", results)
    _print_report(results, arch, written, task)


def _print_report(results: dict, arch: Architecture, written: Export, task: SearchTask) -> None:
    """What was found, how surely, at which cost, and how to load it."""
    if task.notation:
        print(f"\n{results['notation']}")
    print(f"\nfound: {arch}")
    if "entropy" in results:
        print(f"entropy of the architecture parameters: {results['entropy']:.3f} of 1 (undecided)")
    else:
        print(
            f"best of {results['candidates_evaluated']:,} candidates, each evaluated on "
            f"{results['candidate_examples']:,} {task.example}s"
        )
    plain_net = "largest" if "largest" in results else "most expensive"  # a space of operations has no order
    print(f"search cost: {results['search_cost']:,.1f} training steps of the {plain_net} net")
    print_budgets(results["budgets"], task)
    print(
        f"reloaded files against the supernet: logits differ by {written.difference:.1e} of {written.scale:.1e} at most"
    )
    loading = ", trust_remote_code=True" if written.form == "compact" else ""
    print(f'load it: pipeline("{task.pipeline}", model="{written.folder}"{loading})')


def print_budgets(used: Mapping[str, float], task: SearchTask) -> None:
    """A line for each budget: what it allows and what is used."""
    units = {
        "params": "parameters",
        "params_without_embeddings": "parameters without embeddings",
        "flops": f"FLOPs per {task.example}",
        "latency_ms": "ms per forward pass (predicted)",
    }
    for cost, unit in units.items():
        if f"max_{cost}" not in used:
            continue
        limit, arch, expectation = (used.get(f"{kind}_{cost}") for kind in ("max", "arch", "expected"))
        line = f"budget: {arch:,} of {limit:,} {unit} used ({arch / limit:.1%})"
        if expectation is not None:
            digits = 3 if cost == "latency_ms" else 0
            line += f"; expected under the shares {expectation:,.{digits}f} ({expectation / limit:.1%})"
        print(line)


def common_results(supernet: PreTrainedModel, cost: float, task: SearchTask, used: Mapping[str, float | str]) -> dict:
    """What `results.json` says of every search."""
    return {
        "command": command_line(),
        "pipeline": task.pipeline,
        "data": task.data,
        "search": dict(used),
        "search_cost": cost,
        **({"largest": supernet.space.largest.to_dict()} if supernet.space.ordered else {}),
    }


def table_row(
    name: str, supernet: PreTrainedModel, arch: Architecture, task: SearchTask, scores: Mapping[str, float]
) -> dict[str, str | int | float]:
    """A net as a row of the table at the end."""
    cost = {"parameters": num_params(supernet.space, arch, supernet.config), **task.compute(arch)}
    return {"net": name, **cost, **scores}
