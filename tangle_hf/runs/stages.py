"""Methods of one stage and of two, from the data to the architecture that they find."""

from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..analysis import format_table, plot_diagnostics, plot_shares, read_metrics
from ..arch_parameters import ArchParameters
from ..samplers import sampler
from ..search import SearchArguments, choose, search, search_candidates, trace_front, train_single_paths
from ..search.choice import budget_use, budgets_of, costs
from ..search.gradient.arch_front import ArchFront
from ..search.loop import step_size
from ..search.search_cost import SearchCost
from ..space import Architecture
from .task import Found, FoundFront, SearchTask


def one_stage(
    supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments, accelerator: Accelerator
) -> Found | FoundFront | None:
    """Architecture parameters trained along with the weights; None if it was stopped, or on other processes."""
    arch_parameters = search(
        supernet,
        task.train_data,
        task.arch_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, settings.eval_batches, arch=arch),
        task.sequence_length,
        lambda mixture: task.score(task.validation_data, settings.eval_batches, mixture=mixture)["loss"],
    )
    if arch_parameters is None or not accelerator.is_main_process:
        return None
    metrics = _leave_logits(arch_parameters, task, settings)
    cost = SearchCost(supernet, step_size(settings, accelerator), task.sequence_length, metrics[-1]["search_cost"])

    def loss(arch: Architecture) -> float:
        cost.add_evaluation(arch, candidate_examples(task, settings))
        return task.score(task.arch_data, settings.candidate_batches, arch=arch)["loss"]

    if settings.pareto:
        points = trace_front(supernet, arch_parameters, settings, loss)
        return FoundFront(arch_parameters, points, loss(supernet.space.smallest), cost.spent)
    plot_shares(metrics, supernet.space.choices, Path(settings.output_dir) / "shares.png")
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


def _leave_logits(
    arch_parameters: ArchParameters | ArchFront, task: SearchTask, settings: SearchArguments
) -> list[dict]:
    """Leaves the logits and the plot of whether they decide; returns the lines of `metrics.jsonl`."""
    run_dir, header = Path(settings.output_dir), {"method": settings.method}
    if task.sequence_length is not None:
        header["block_size"] = str(task.sequence_length)
    arch_parameters.save(run_dir / "arch_parameters.safetensors", header)
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_diagnostics(metrics, run_dir / "diagnostics.png")
    return metrics


def two_stages(
    supernet: PreTrainedModel, task: SearchTask, settings: SearchArguments, accelerator: Accelerator
) -> Found | None:
    """Weights trained on single paths, then a search over candidates; None if it was stopped."""
    cost = train_single_paths(
        supernet,
        task.train_data,
        settings,
        accelerator,
        lambda arch: task.score(task.validation_data, settings.eval_batches, arch=arch),
        task.sequence_length,
    )
    if cost is None:
        return None
    training, examples = cost.spent, candidate_examples(task, settings)
    log = search_candidates(
        supernet,
        lambda arch: task.score(task.arch_data, settings.candidate_batches, arch=arch),
        examples,
        settings,
        accelerator,
        cost,
        task.sequence_length,
    )
    if log is None or not accelerator.is_main_process:
        return None
    best = log.best()
    arch = Architecture(best[0]["arch"])
    results = {
        "budgets": budget_use(arch, budgets_of(settings, supernet, task.sequence_length)),
        "candidates_evaluated": len(best),
        "candidate_examples": examples,
        "training_cost": training,
        "candidates": best[: settings.num_parents],
    }
    if settings.resolved_method.choice == "nsga2":
        results["front"] = log.front(settings.nsga2_cost)
        columns = (settings.nsga2_cost, "loss")
        print("\n" + format_table([{name: record[name] for name in columns} for record in results["front"]]))
    return Found(arch, cost.spent, results)


def candidate_examples(task: SearchTask, settings: SearchArguments) -> int:
    """Examples on which a candidate is evaluated."""
    wanted = settings.candidate_batches * settings.per_device_batch_size
    return min(wanted, len(task.arch_data)) if hasattr(task.arch_data, "__len__") else wanted
