"""What every search recipe does around its data and its supernet: start, search, export, table."""

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from run_folder import check_run_folder, write_config
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

import tangle_hf
from tangle_hf import ArchParameters, num_params, one_hot, sampler
from tangle_hf.analysis import format_table, plot_losses, plot_shares, read_metrics
from tangle_hf.export import export
from tangle_hf.search import SearchArguments, choose, search
from tangle_hf.search.choose import budgets_of, check_budgets, costs
from tangle_hf.space import Architecture


FREE_ON_RESUME = {
    "resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps",
    "dataloader_num_workers",
}  # fmt: skip
OWN_FOLDERS = (Path(__file__).resolve().parent, Path(tangle_hf.__file__).resolve().parent)


@dataclass(frozen=True)
class SearchTask:
    """What a search needs to know of its data.

    Args:
        pipeline: Name of the transformers pipeline that runs the result.
        processor: Tokenizer or image processor, to save along.
        train_data: Examples for the weights.
        arch_data: Examples for the architecture parameters.
        validation_data: Examples to follow the search by.
        score: Examples, architecture -> scores with the supernet's current weights, "loss" among them.
        test: Model, and `mixture=` or `arch=` for a supernet -> scores on test data, as columns of the table.
        compute: Architecture -> its FLOPs, as columns of the table.
        sample: Inputs of one forward pass, to compare an export with the supernet.
        example: What an example is called.
        sequence_length: Tokens of an example of text.
        settle: Called with what was found before it is tested and exported: batch norms want statistics of their own.
        notation: Architecture -> how the field writes it, where it has a way of its own.
    """

    pipeline: str
    processor: object
    train_data: torch.utils.data.Dataset
    arch_data: torch.utils.data.Dataset
    validation_data: torch.utils.data.Dataset
    score: Callable[[torch.utils.data.Dataset, Architecture], Mapping[str, float]]
    test: Callable[..., dict[str, float]]
    compute: Callable[[Architecture], dict[str, int]]
    sample: Mapping[str, torch.Tensor]
    example: str
    sequence_length: int | None = None
    settle: Callable[[Architecture], None] = lambda arch: None
    notation: Callable[[Architecture], str] | None = None


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
        print(f"{supernet.space.size:,} architectures, the supernet has {supernet.num_parameters():,} parameters")
    if settings.report_to != "none":
        accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in resolved.items()})
    arch_parameters = search(
        supernet,
        task.train_data,
        task.arch_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, arch),
        task.sequence_length,
    )
    if accelerator.is_main_process:
        if arch_parameters is None:
            print(f"stopped; continue with the same command and --resume (checkpoint in {run_dir / 'checkpoints'})")
        else:
            report(supernet, arch_parameters, task, settings)
    accelerator.end_training()


def report(
    supernet: PreTrainedModel, arch_parameters: ArchParameters, task: SearchTask, settings: SearchArguments
) -> None:
    """Leaves the supernet, the subnet, the plots and the results, and prints the table."""
    run_dir, space, method = Path(settings.output_dir), supernet.space, sampler(settings.sampler)
    arch_parameters.save(run_dir / "arch_parameters.safetensors")
    supernet.save_pretrained(run_dir / "supernet")
    task.processor.save_pretrained(run_dir / "supernet")
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, run_dir / "losses.png")
    rows = []

    def row(name: str, arch: Architecture, scores: dict[str, float]) -> None:
        cost = {"parameters": num_params(space, arch, supernet.config), **task.compute(arch)}
        rows.append({"net": name, **cost, **scores})

    results = {"largest": space.largest.to_dict()} if space.ordered else {}
    if not method.single_path:
        budgets = budgets_of(settings, supernet, task.sequence_length)
        candidates = choose(
            supernet,
            arch_parameters,
            settings,
            lambda arch: task.score(task.arch_data, arch)["loss"],
            task.sequence_length,
        )
        arch = candidates[0][0].arch
        task.settle(arch)
        plot_shares(metrics, space.choices, run_dir / "shares.png")
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
        results |= {"notation": task.notation(arch)} if task.notation else {}
    if space.ordered or method.single_path:
        name = "largest, in the supernet" if space.ordered else "last choices, in the supernet"
        row(name, space.largest, task.test(supernet, arch=space.largest))
    results["table"] = rows
    (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print("\n" + format_table(rows))
    if method.single_path:
        return print(
            f"\n{settings.sampler} trains weights and chooses nothing; the supernet is in {run_dir / 'supernet'}"
        )
    if task.notation:
        print(f"\n{results['notation']}")
    loading = ", trust_remote_code=True" if written.form == "compact" else ""
    print(f"\nfound: {arch}\nentropy of the architecture parameters: {results['entropy']:.3f} of 1 (undecided)")
    units = {
        "params": "parameters",
        "params_without_embeddings": "parameters without embeddings",
        "flops": f"FLOPs per {task.example}",
    }
    for budget in budgets:
        used, expectation = (results["budgets"][f"{kind}_{budget.cost}"] for kind in ("arch", "expected"))
        print(
            f"budget: {used:,} of {budget.limit:,} {units[budget.cost]} used ({used / budget.limit:.1%}); "
            f"expected under the shares {expectation:,.0f} ({expectation / budget.limit:.1%})"
        )
    print(
        f"reloaded files against the supernet: logits differ by {written.difference:.1e} of {written.scale:.1e} at most"
    )
    print(f'load it: pipeline("{task.pipeline}", model="{written.folder}"{loading})')
