"""What every search recipe does around its data and its supernet: start, search, export, table."""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from run_folder import check_run_folder, write_config, write_json
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

import tangle_hf
from tangle_hf import num_params, one_hot, sampler
from tangle_hf.analysis import format_table, plot_losses, plot_shares, read_metrics
from tangle_hf.export import export
from tangle_hf.search import SearchArguments, choose, search, search_candidates, train_single_paths
from tangle_hf.search.choose import budgets_of, check_budgets, costs
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.space import Architecture


FREE_ON_RESUME = {
    "resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps",
    "dataloader_num_workers", "generations",
}  # fmt: skip
OWN_FOLDERS = (Path(__file__).resolve().parent, Path(tangle_hf.__file__).resolve().parent)


@dataclass(frozen=True)
class SearchTask:
    """What a search needs to know of its data.

    Args:
        pipeline: Name of the transformers pipeline that runs the result.
        processor: Tokenizer or image processor, to save along.
        train_data: Examples for the weights.
        arch_data: Examples for the architecture: its parameters' steps, and the losses of candidates.
        validation_data: Examples to follow the search by.
        score: Examples, batches of them, architecture -> scores with the supernet's current weights, "loss" among them.
        test: Model, and `mixture=` or `arch=` for a supernet -> scores on test data, as columns of the table.
        compute: Architecture -> its FLOPs, as columns of the table.
        sample: Inputs of one forward pass, to compare an export with the supernet.
        example: What an example is called.
        sequence_length: Tokens of an example of text.
    """

    pipeline: str
    processor: object
    train_data: torch.utils.data.Dataset
    arch_data: torch.utils.data.Dataset
    validation_data: torch.utils.data.Dataset
    score: Callable[[torch.utils.data.Dataset, int, Architecture], Mapping[str, float]]
    test: Callable[..., dict[str, float]]
    compute: Callable[[Architecture], dict[str, int]]
    sample: Mapping[str, torch.Tensor]
    example: str
    sequence_length: int | None = None


@contextmanager
def readable_errors() -> Iterator[None]:
    """Ends the script with one line where a file of this project raises an error that is meant for the user.

    One from elsewhere is an error that nobody has thought of, and keeps its traceback.
    """
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if not any(origin.is_relative_to(folder) for folder in OWN_FOLDERS):
            raise
        sys.exit(f"error: {error}")


def start(settings: SearchArguments, resolved: dict) -> Accelerator:
    """Checks the folder, sets the seed, and gives the accelerator.

    Args:
        settings: The trainer's.
        resolved: All settings of the run.

    Raises:
        ValueError: As `check_run_folder`.
    """
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=settings.output_dir,
    )
    if not settings.dry_run:
        check_run_folder(Path(settings.output_dir), resolved, settings.resume, FREE_ON_RESUME)
    set_seed(settings.seed)
    disable_progress_bar()  # of loading and saving; the search has its own
    return accelerator


def run(
    supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments, accelerator: Accelerator, resolved: dict
) -> None:
    """Searches, and reports what was found, unless it is stopped before."""
    run_dir = Path(settings.output_dir)
    check_budgets(settings, supernet, task.sequence_length)
    if accelerator.is_main_process:
        write_config(run_dir, resolved)
        print(f"{supernet.space.size:,} architectures, the largest has {supernet.num_parameters():,} parameters")
    if settings.report_to != "none":
        accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in resolved.items()})
    if settings.resolved_method.two_stage:
        found = two_stages(supernet, task, settings, accelerator)
    else:
        found = one_stage(supernet, task, settings, accelerator)
    if accelerator.is_main_process:
        if found is None:
            print(f"stopped; continue with the same command and --resume (checkpoint in {run_dir / 'checkpoints'})")
        else:
            report(supernet, found, task, settings)
    accelerator.end_training()


@dataclass(frozen=True)
class Found:
    """What a search has found, by whatever method.

    Args:
        arch: The architecture.
        cost: What the search cost, in plain-model steps.
        results: More for `results.json`.
    """

    arch: Architecture
    cost: float
    results: dict


def one_stage(
    supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments, accelerator: Accelerator
) -> Found | None:
    """Architecture parameters trained along with the weights; None if it was stopped."""
    run_dir = Path(settings.output_dir)
    arch_parameters = search(
        supernet,
        task.train_data,
        task.arch_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, settings.eval_batches, arch),
        task.sequence_length,
    )
    if arch_parameters is None or not accelerator.is_main_process:
        return None
    arch_parameters.save(run_dir / "arch_parameters.safetensors")
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_shares(metrics, supernet.space.choices, run_dir / "shares.png")
    batch_size = settings.per_device_batch_size * settings.gradient_accumulation_steps * accelerator.num_processes
    cost = SearchCost(supernet, batch_size, task.sequence_length, metrics[-1]["search_cost"])

    def loss(arch: Architecture) -> float:
        cost.add_evaluation(arch, candidate_examples(task, settings))
        return task.score(task.arch_data, settings.candidate_batches, arch)["loss"]

    candidates = choose(supernet, arch_parameters, settings, loss, task.sequence_length)
    arch = candidates[0][0].arch
    budgets = budgets_of(settings, supernet, task.sequence_length)
    results = {
        "entropy": arch_parameters.entropy(sampler(settings.sampler)),
        "budgets": costs(arch_parameters, arch, settings, budgets),
        "candidates": [
            {"arch": c.arch.to_dict(), "log_probability": c.log_probability, "loss": loss} for c, loss in candidates
        ],
    }
    return Found(arch, cost.spent, results)


def two_stages(
    supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments, accelerator: Accelerator
) -> Found | None:
    """Weights trained on single paths, then a search over candidates; None if it was stopped."""
    cost = train_single_paths(
        supernet,
        task.train_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, settings.eval_batches, arch),
        task.sequence_length,
    )
    if cost is None:
        return None
    training, examples = cost.spent, candidate_examples(task, settings)
    log = search_candidates(
        supernet,
        lambda arch: task.score(task.arch_data, settings.candidate_batches, arch),
        examples,
        settings,
        accelerator,
        cost,
        task.sequence_length,
    )
    if log is None or not accelerator.is_main_process:
        return None
    best = log.best()
    budgets = budgets_of(settings, supernet, task.sequence_length)
    limits = {f"max_{b.cost}": b.limit for b in budgets} | {f"arch_{b.cost}": best[0][b.cost] for b in budgets}
    results = {
        "budgets": limits,
        "candidates_evaluated": len(best),
        "candidate_examples": examples,
        "training_cost": training,
        "candidates": best[: settings.num_parents],
    }
    if settings.resolved_method.choice == "nsga2":
        results["front"] = log.front(settings.nsga2_cost)
        columns = (settings.nsga2_cost, "loss")
        print("\n" + format_table([{name: record[name] for name in columns} for record in results["front"]]))
    return Found(Architecture(best[0]["arch"]), cost.spent, results)


def candidate_examples(task: SearchTask, settings: SearchArguments) -> int:
    """Examples on which a candidate is evaluated."""
    wanted = settings.candidate_batches * settings.per_device_batch_size
    return min(wanted, len(task.arch_data)) if hasattr(task.arch_data, "__len__") else wanted


def report(supernet: PreTrainedModel, found: Found, task: SearchTask, settings: SearchArguments) -> None:
    """Leaves the supernet, the subnet, the plots and the results, and prints the table."""
    run_dir, space, arch = Path(settings.output_dir), supernet.space, found.arch
    supernet.save_pretrained(run_dir / "supernet")
    task.processor.save_pretrained(run_dir / "supernet")
    plot_losses(read_metrics(run_dir / "metrics.jsonl"), run_dir / "losses.png")
    rows = []

    def row(name: str, arch: Architecture, scores: dict[str, float]) -> None:
        cost = {"parameters": num_params(space, arch, supernet.config), **task.compute(arch)}
        rows.append({"net": name, **cost, **scores})

    (run_dir / "architecture.json").write_text(arch.to_json() + "\n")
    inputs = {name: values.to(supernet.device) for name, values in task.sample.items()}
    written = export(supernet, arch, run_dir / "subnet", inputs, processor=task.processor)
    subnet = supernet.auto_model.from_pretrained(written.folder, trust_remote_code=written.form == "compact")
    subnet.to(supernet.device)
    row("found, in the supernet", arch, task.test(supernet, mixture=one_hot(space, arch)))
    row(f"found, exported ({written.form})", arch, task.test(subnet))
    row("largest, in the supernet", space.largest, task.test(supernet, arch=space.largest))
    results = {"method": settings.method, "largest": space.largest.to_dict(), "found": arch.to_dict()}
    results |= {"form": written.form, "logit_difference": written.difference, "logit_scale": written.scale}
    results |= {"search_cost": found.cost, **found.results, "table": rows}
    write_json(run_dir / "results.json", results)
    print("\n" + format_table(rows))
    print(f"\nfound: {arch}")
    if "entropy" in results:
        print(f"entropy of the architecture parameters: {results['entropy']:.3f} of 1 (undecided)")
    else:
        print(
            f"best of {results['candidates_evaluated']:,} candidates, each evaluated on "
            f"{results['candidate_examples']:,} {task.example}s"
        )
    print(f"search cost: {found.cost:,.1f} training steps of the largest model")
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
    }
    for cost, unit in units.items():
        if f"max_{cost}" not in used:
            continue
        limit, arch, expectation = (used.get(f"{kind}_{cost}") for kind in ("max", "arch", "expected"))
        line = f"budget: {arch:,} of {limit:,} {unit} used ({arch / limit:.1%})"
        if expectation is not None:
            line += f"; expected under the shares {expectation:,.0f} ({expectation / limit:.1%})"
        print(line)
