"""What every search recipe does around its data and its supernet: start, search, export, table."""

import csv
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from hub_arguments import SearchHubArguments, command_line, hub_options
from run_folder import check_run_folder, write_config, write_json
from run_latency import compare_latency, with_latency_table, without_latency
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from tangle_hf import ArchParameters, num_params, one_hot, sampler
from tangle_hf.analysis import format_table, plot_diagnostics, plot_front, plot_losses, plot_shares, read_metrics
from tangle_hf.card import write_card
from tangle_hf.cost_table import exact
from tangle_hf.errors import readable_errors
from tangle_hf.export import export
from tangle_hf.hub import check_target, push
from tangle_hf.search import SearchArguments, choose, search, trace_front
from tangle_hf.search.choose import budgets_of, check_budgets, costs
from tangle_hf.search.front import hypervolume
from tangle_hf.search.pareto import ArchFront
from tangle_hf.space import Architecture


FREE_ON_RESUME = {
    "resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps",
    "dataloader_num_workers", "allow_other_latency_table", "early_stop_evals", "undecided_entropy",
    *(item.name for item in fields(SearchHubArguments)),
}  # fmt: skip
readable_errors = partial(readable_errors, Path(__file__).parent)


@dataclass(frozen=True)
class SearchTask:
    """What a search needs to know of its data.

    Args:
        pipeline: Name of the transformers pipeline that runs the result.
        processor: Tokenizer or image processor, to save along.
        train_data: Examples for the weights.
        arch_data: Examples for the architecture parameters.
        validation_data: Examples to follow the search by.
        score: Examples, and `arch=` or `mixture=` -> scores with the supernet's current weights, "loss" among them.
        test: Model, and `mixture=` or `arch=` for a supernet -> scores on test data, as columns of the table.
        compute: Architecture -> its FLOPs, as columns of the table.
        sample: Inputs of one forward pass, to compare an export with the supernet.
        example: What an example is called.
        data: What the data are, in a few words for the model card.
        sequence_length: Tokens of an example of text.
    """

    pipeline: str
    processor: object
    train_data: torch.utils.data.Dataset
    arch_data: torch.utils.data.Dataset
    validation_data: torch.utils.data.Dataset
    score: Callable[..., Mapping[str, float]]
    test: Callable[..., dict[str, float]]
    compute: Callable[[Architecture], dict[str, int]]
    sample: Mapping[str, torch.Tensor]
    example: str
    data: str
    sequence_length: int | None = None


def start(settings: SearchArguments, hub: SearchHubArguments, resolved: dict) -> Accelerator:
    """Checks the folder and where to publish, sets the seed, and gives the accelerator.

    Args:
        settings: The trainer's.
        hub: Whether and where to publish.
        resolved: All settings of the run.

    Raises:
        ValueError: As `check_run_folder` and `check_target`.
        ConnectionError: As `check_target`.
    """
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=settings.output_dir,
    )
    if not settings.dry_run:
        check_run_folder(Path(settings.output_dir), resolved, settings.resume, FREE_ON_RESUME)
        if hub.push_to_hub and accelerator.is_main_process:  # better now than after hours
            for repo_id, supernet in targets(settings, hub):
                kind = "supernet" if supernet else "subnet"
                check_target(repo_id, kind, **hub_options(hub))
    set_seed(settings.seed)
    disable_progress_bar()  # of loading and saving; the search has its own
    return accelerator


def targets(settings: SearchArguments, hub: SearchHubArguments) -> list[tuple[str, bool]]:
    """(repository, whether it is for the supernet) of everything that is to be published.

    A method that chooses nothing has only its supernet to show, and so has a front, which chooses many.
    """
    whole = sampler(settings.sampler).single_path or settings.pareto is not None
    main = hub.hub_model_id or Path(settings.output_dir).resolve().name, whole
    return [main] if hub.hub_supernet_model_id is None else [main, (hub.hub_supernet_model_id, True)]


def run(
    supernet: PreTrainedModel,
    task: SearchTask,
    settings: SearchArguments,
    hub: SearchHubArguments,
    accelerator: Accelerator,
    resolved: dict,
) -> None:
    """Searches, reports what was found, and publishes it if asked to, unless it is stopped before."""
    run_dir = Path(settings.output_dir)
    # What needs no latency is refused before it is measured.
    check_budgets(without_latency(settings), supernet, task.sequence_length)
    settings = with_latency_table(supernet, settings, accelerator, task.sequence_length)
    if accelerator.is_main_process:
        write_config(run_dir, resolved)
        print(f"{supernet.space.size:,} architectures, the largest has {supernet.num_parameters():,} parameters")
    if settings.report_to != "none":
        accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in resolved.items()})
    begin = time.perf_counter(), time.process_time()
    arch_parameters = search(
        supernet,
        task.train_data,
        task.arch_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, arch=arch),
        task.sequence_length,
        lambda mixture: task.score(task.validation_data, mixture=mixture)["loss"],
    )
    if accelerator.is_main_process:
        if arch_parameters is None:
            print(f"stopped; continue with the same command and --resume (checkpoint in {run_dir / 'checkpoints'})")
        else:
            seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
            used = {"device": device_name(accelerator)}
            if not settings.resume:  # the time of a part would mislead
                used |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
            save_search(supernet, arch_parameters, task, settings)
            (report_front if settings.pareto else report)(supernet, arch_parameters, task, settings, used)
            for folder in ("subnet", "supernet"):
                if (run_dir / folder).is_dir():
                    write_card(run_dir, run_dir / folder, license=hub.license)
            if hub.push_to_hub:
                for repo_id, of_supernet in targets(settings, hub):
                    print(f"published: {push(run_dir, repo_id, supernet=of_supernet, **hub_options(hub))}")
    accelerator.end_training()


def device_name(accelerator: Accelerator) -> str:
    """What a search ran on, in words."""
    kind, count = accelerator.device.type, accelerator.num_processes
    name = (
        f"CPU with {torch.get_num_threads()} torch thread(s)"
        if kind == "cpu"
        else torch.get_device_module().get_device_name()
    )
    return name if count == 1 else f"{count} processes, each {name}"


def save_search(
    supernet: PreTrainedModel, arch_parameters: ArchParameters | ArchFront, task: SearchTask, settings: SearchArguments
) -> None:
    """Leaves the supernet, the logits, and the plots of every search."""
    run_dir, header = Path(settings.output_dir), {"sampler": settings.sampler}
    if task.sequence_length is not None:
        header["block_size"] = str(task.sequence_length)
    arch_parameters.save(run_dir / "arch_parameters.safetensors", header)
    supernet.save_pretrained(run_dir / "supernet")
    task.processor.save_pretrained(run_dir / "supernet")
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, run_dir / "losses.png")
    plot_diagnostics(metrics, run_dir / "diagnostics.png")


def report(
    supernet: PreTrainedModel,
    arch_parameters: ArchParameters,
    task: SearchTask,
    settings: SearchArguments,
    used: Mapping[str, float | str],
) -> None:
    """Leaves the subnet, its shares and the results, and prints the table.

    Args:
        supernet: After the search.
        arch_parameters: What `search` returned.
        task: Data and scores.
        settings: The trainer's.
        used: On what device the search ran, and if known its seconds of wall clock and of this process on the CPU.
    """
    run_dir, space, method = Path(settings.output_dir), supernet.space, sampler(settings.sampler)
    rows = []

    def row(name: str, arch: Architecture, scores: dict[str, float]) -> None:
        rows.append(table_row(name, supernet, arch, task, scores))

    results = common_results(supernet, task, used)
    if not method.single_path:
        budgets = budgets_of(settings, supernet, task.sequence_length)
        candidates = choose(
            supernet,
            arch_parameters,
            settings,
            lambda arch: task.score(task.arch_data, arch=arch)["loss"],
            task.sequence_length,
        )
        arch = candidates[0][0].arch
        plot_shares(read_metrics(run_dir / "metrics.jsonl"), space.choices, run_dir / "shares.png")
        (run_dir / "architecture.json").write_text(arch.to_json() + "\n")
        inputs = {name: values.to(supernet.device) for name, values in task.sample.items()}
        written = export(supernet, arch, run_dir / "subnet", inputs, processor=task.processor)
        subnet = supernet.auto_model.from_pretrained(written.folder, trust_remote_code=written.form == "compact")
        subnet.to(supernet.device)
        row("found, in the supernet", arch, task.test(supernet, mixture=one_hot(space, arch)))
        row(f"found, exported ({written.form})", arch, task.test(subnet))
        results |= {"found": arch.to_dict(), "form": written.form, "logit_difference": written.difference}
        results |= {"logit_scale": written.scale, "entropy": arch_parameters.entropy(method)}
        results["budgets"] = costs(arch_parameters, arch, settings, budgets)
        results["candidates"] = [
            {"arch": c.arch.to_dict(), "log_probability": c.log_probability, "loss": loss} for c, loss in candidates
        ]
    row("largest, in the supernet", space.largest, task.test(supernet, arch=space.largest))
    results["table"] = rows
    print("\n" + format_table(rows))
    if settings.latency_table is not None:
        timed = {} if method.single_path else {"found, exported": (arch, subnet)}
        timed["largest"] = (space.largest, None)
        limit_ms = results.get("budgets", {}).get("max_latency_ms")
        results["latency"] = compare_latency(supernet, timed, settings, task.sequence_length, limit_ms)
    (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if method.single_path:
        return print(
            f"\n{settings.sampler} trains weights and chooses nothing; the supernet is in {run_dir / 'supernet'}"
        )
    loading = ", trust_remote_code=True" if written.form == "compact" else ""
    print(f"\nfound: {arch}\nentropy of the architecture parameters: {results['entropy']:.3f} of 1 (undecided)")
    units = {
        "params": "parameters",
        "params_without_embeddings": "parameters without embeddings",
        "flops": f"FLOPs per {task.example}",
        "latency_ms": "ms per forward pass (predicted)",
    }
    for budget in budgets:
        limit, used, expectation = (results["budgets"][f"{k}_{budget.cost}"] for k in ("max", "arch", "expected"))
        print(
            f"budget: {used:,} of {limit:,} {units[budget.cost]} used ({used / limit:.1%}); "
            f"expected under the shares {expectation:,.{0 if budget.unit == 1 else 3}f} ({expectation / limit:.1%})"
        )
    print(
        f"reloaded files against the supernet: logits differ by {written.difference:.1e} of {written.scale:.1e} at most"
    )
    print(f'load it: pipeline("{task.pipeline}", model="{written.folder}"{loading})')


def common_results(supernet: PreTrainedModel, task: SearchTask, used: Mapping[str, float | str]) -> dict:
    """What `results.json` says of every search."""
    return {
        "command": command_line(),
        "pipeline": task.pipeline,
        "data": task.data,
        "search": dict(used),
        "largest": supernet.space.largest.to_dict(),
    }


def table_row(
    name: str, supernet: PreTrainedModel, arch: Architecture, task: SearchTask, scores: Mapping[str, float]
) -> dict[str, str | int | float]:
    """A net as a row of the table at the end."""
    cost = {"parameters": num_params(supernet.space, arch, supernet.config), **task.compute(arch)}
    return {"net": name, **cost, **scores}


def report_front(
    supernet: PreTrainedModel,
    front: ArchFront,
    task: SearchTask,
    settings: SearchArguments,
    used: Mapping[str, float | str],
) -> None:
    """Leaves the front as `pareto.json`, `pareto.csv` and `pareto.png`, the results, and prints the front.

    Args:
        supernet: After the search.
        front: What `search` returned.
        task: Data and scores.
        settings: The trainer's.
        used: As in `report`.
    """
    run_dir, space, cost = Path(settings.output_dir), supernet.space, settings.pareto

    def loss(arch: Architecture) -> float:
        return task.score(task.arch_data, arch=arch)["loss"]

    budget = front.budgets[0][-1]
    largest, worst = budget.in_units(exact(budget.table, space.largest)), loss(space.smallest)
    points, shown, rows = [], [], []
    for number, point in enumerate(trace_front(supernet, front, settings, loss)):
        arch = point.candidate.arch
        scores = task.test(supernet, mixture=one_hot(space, arch))
        numbers = {
            "limit": point.limit,
            "cost": point.cost,
            "share": point.cost / largest,
            "loss": point.loss,
            **scores,
        }
        points.append({**numbers, "nondominated": point.nondominated, "arch": arch.to_dict()})
        shown.append({"point": number, **numbers, "front": "yes" if point.nondominated else "no", "arch": str(arch)})
        rows.append(table_row(f"point {number} of the front", supernet, arch, task, scores))
    rows.append(
        table_row("largest, in the supernet", supernet, space.largest, task, task.test(supernet, arch=space.largest))
    )
    area = hypervolume([(point["share"], point["loss"]) for point in points], (1.0, worst))
    anchors = [budget.in_units(limit) for limit in front.limits]
    result = {"cost": cost, "largest": largest, "anchors": anchors, "max_steps": settings.max_steps}
    result |= {"reference": [1.0, worst], "hypervolume": area, "points": points}
    write_json(run_dir / "pareto.json", result)
    with (run_dir / "pareto.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(shown[0]))
        writer.writeheader()
        writer.writerows(shown)
    plot_front(points, cost, run_dir / "pareto.png")
    print("\n" + format_table(shown))
    results = common_results(supernet, task, used) | {"table": rows}
    if settings.latency_table is not None:
        timed = {f"point {n}": (space.architecture(**point["arch"]), None) for n, point in enumerate(points)}
        results["latency"] = compare_latency(supernet, timed, settings, task.sequence_length, None)
    write_json(run_dir / "results.json", results)
    print(
        f"\n{sum(point['nondominated'] for point in points)} of {len(points)} points are beaten by no other; hypervolume "
        f"{area:.4f} in shares of the largest net's {cost} times nats, up to all of it and the smallest net's loss, "
        f"{worst:.4f}"
    )
    print(f'export one: tangle_hf.resolve.extract_point("{run_dir}", POINT, FOLDER)')
