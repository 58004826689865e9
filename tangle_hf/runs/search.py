"""The search of a run, methods of one stage and of two, from examples to the architecture that they find."""

import copy
from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedModel

from ..analysis import format_table, plot_diagnostics, plot_shares, read_metrics
from ..arch_parameters import ArchParameters
from ..data.examples import Examples
from ..samplers import sampler
from ..search import SearchArguments, choose, search, search_candidates, trace_front, train_single_paths
from ..search.batches import Batches
from ..search.choice import budget_use, costs
from ..search.distillation import Teacher, teacher_of
from ..search.finalists.candidates import proposed_nets
from ..search.gradient.arch_front import ArchFront
from ..search.gradient.front import hand_cuts_along, reference_net
from ..search.limits import Limits
from ..search.loop import step_size
from ..search.search_cost import SearchCost
from ..space import Architecture
from .finalists import decide
from .found import Found, FoundFront
from .front_finalists import decide_front
from .run import Run


def find(run: Run, supernet: PreTrainedModel, examples: Examples, weights, architecture) -> Found | FoundFront | None:
    """Searches by the method of the settings.

    Args:
        run: The run.
        supernet: An `Elastic*` model, with the weights of `start_from` if it is given; trained in place.
        examples: To follow the search by, and how models are scored on them.
        weights: Examples for the weights.
        architecture: Examples for the architecture: steps of its parameters, losses of candidates.

    Returns:
        What was found; None if the search was stopped (a checkpoint was left), and on all processes but the main one.

    Raises:
        ValueError: The limits cannot be kept, a latency table is not for this search, or there is no checkpoint to resume.
        FloatingPointError: The weights diverged.
    """
    device = run.accelerator.device
    own = run.settings
    for data in (weights,) if own.resolved_method.two_stage else (weights, architecture):
        # Too few examples for a batch are refused here, before latency is measured.
        Batches(run.accelerator, data, own.per_device_batch_size, own.seed, own.dataloader_num_workers)
    teacher = teacher_of(supernet, run.settings, device)
    limits = run.begin(supernet, examples.sequence_length)
    settings, start = run.settings, None if teacher is None else teacher.model
    if start is None and settings.proposed_finalists and settings.resolved_finalist_start == "checkpoint":
        start = copy.deepcopy(supernet).to(device)
    stages = _two_stages if settings.resolved_method.two_stage else _one_stage
    found = stages(run, supernet, examples, weights, architecture, limits, teacher)
    if settings.proposed_finalists:
        best = decide if settings.pareto is None else decide_front
        found = best(
            supernet, examples, found, limits, settings, run.accelerator, teacher, start, run.refresh_report, run.stop
        )
    if found is not None and run.main_process and teacher is not None:
        print(teacher)
        found = replace(found, teacher=teacher.facts())
    return found if run.main_process else None


def _one_stage(
    run: Run,
    supernet: PreTrainedModel,
    examples: Examples,
    weights,
    architecture,
    limits: Limits,
    teacher: Teacher | None,
) -> Found | FoundFront | None:
    """Architecture parameters trained along with the weights."""
    settings = run.settings
    validation = _scores(supernet, examples, examples.validation, settings, settings.eval_batches)
    arch_parameters = search(
        supernet,
        weights,
        architecture,
        settings,
        run.accelerator,
        lambda arch: validation(arch=arch),
        lambda mixture: validation(mixture=mixture)["loss"],
        limits,
        teacher,
        run.refresh_report,
    )
    if arch_parameters is None:
        return run.stop()
    if not run.main_process:
        return None
    metrics = _leave_logits(run, arch_parameters, examples.sequence_length)
    cost = SearchCost(
        supernet, step_size(settings, run.accelerator), examples.sequence_length, metrics[-1]["search_cost"]
    )
    if settings.pareto:
        loss, method = inherited_loss(supernet, examples, architecture, settings, cost), sampler(settings.sampler)
        points = trace_front(supernet, arch_parameters, settings, loss)
        candidate = _scores(supernet, examples, architecture, settings, settings.candidate_batches)
        cuts = hand_cuts_along(arch_parameters, settings, lambda arch: candidate(arch=arch)["loss"])
        worst, proposed = loss(reference_net(arch_parameters)), []
        for point in points if settings.proposed_finalists else ():
            shares = arch_parameters.at(point.table_limit).probabilities(method)
            own = limits.at(point.table_limit)
            proposed.append(proposed_nets(supernet, shares, point.candidate.arch, settings, own))
        return FoundFront(arch_parameters, points, cuts, worst, cost.spent, proposed, loss)
    plot_shares(metrics, supernet.space.choices, run.folder / "shares.png")
    return choose_net(supernet, arch_parameters, examples, architecture, settings, limits, cost)


def inherited_loss(
    supernet: PreTrainedModel, examples: Examples, architecture, settings: SearchArguments, cost: SearchCost
) -> Callable[[Architecture], float]:
    """An architecture -> the loss that it inherits on data of the architecture steps, whose cost is added."""
    candidate = _scores(supernet, examples, architecture, settings, settings.candidate_batches)

    def loss(arch: Architecture) -> float:
        cost.add_evaluation(arch, _candidate_examples(architecture, settings))
        return candidate(arch=arch)["loss"]

    return loss


def choose_net(
    supernet: PreTrainedModel,
    arch_parameters: ArchParameters,
    examples: Examples,
    architecture,
    settings: SearchArguments,
    limits: Limits,
    cost: SearchCost,
) -> Found:
    """What a search of one stage has found within some limits, which need not be those that it had.

    Args:
        supernet: After the search.
        arch_parameters: What it has trained.
        examples: How nets are scored.
        architecture: Examples for the architecture.
        settings: Those of the search.
        limits: What is kept to.
        cost: What the search cost so far; the choice is added.
    """
    candidates = choose(
        supernet, arch_parameters, settings, inherited_loss(supernet, examples, architecture, settings, cost), limits
    )
    arch, method = candidates[0][0].arch, sampler(settings.sampler)
    shares = arch_parameters.probabilities(method)
    results = {
        "entropy": arch_parameters.entropy(method),
        "budgets": costs(shares, arch, limits.budgets),
        "candidates": [
            {"arch": c.arch.to_dict(), "log_probability": c.log_probability, "loss": loss} for c, loss in candidates
        ],
    }
    proposed = proposed_nets(supernet, shares, arch, settings, limits) if settings.proposed_finalists else [arch]
    return Found(arch, cost.spent, results, proposed)


def _two_stages(
    run: Run,
    supernet: PreTrainedModel,
    examples: Examples,
    weights,
    architecture,
    limits: Limits,
    teacher: Teacher | None,
) -> Found | None:
    """Weights trained on single paths, then a search over candidates."""
    settings = run.settings
    validation = _scores(supernet, examples, examples.validation, settings, settings.eval_batches)
    cost = train_single_paths(
        supernet,
        weights,
        settings,
        run.accelerator,
        lambda arch: validation(arch=arch),
        limits,
        teacher,
        run.refresh_report,
    )
    if cost is None:
        return run.stop()
    training, count = cost.spent, _candidate_examples(architecture, settings)
    candidate = _scores(supernet, examples, architecture, settings, settings.candidate_batches)
    log = search_candidates(
        supernet,
        lambda arch: candidate(arch=arch),
        count,
        settings,
        run.accelerator,
        cost,
        limits,
        run.refresh_report,
    )
    if log is None:
        return run.stop()
    if not run.main_process:
        return None
    best = log.best()
    arch = Architecture(best[0]["arch"])
    results = {
        "budgets": budget_use(arch, limits.budgets),
        "candidates_evaluated": len(best),
        "candidate_examples": count,
        "training_cost": training,
        "candidates": best[: settings.num_parents],
    }
    if settings.resolved_method.choice == "nsga2":
        results["front"] = log.front(settings.nsga2_cost)
        columns = (settings.nsga2_cost, "loss")
        print(format_table([{name: record[name] for name in columns} for record in results["front"]]))
    good = best[: max(settings.num_parents, len(best) // 10)]
    return Found(arch, cost.spent, results, [Architecture(record["arch"]) for record in good])


def _scores(
    supernet: PreTrainedModel, examples: Examples, on, settings: SearchArguments, batches: int
) -> Callable[..., dict[str, float]]:
    """`arch=` or `mixture=` -> scores with the supernet's current weights, on the first batches of some examples."""
    return lambda **chosen: examples.score(supernet, on, settings.per_device_batch_size, batches, **chosen)


def _leave_logits(run: Run, arch_parameters: ArchParameters | ArchFront, sequence_length: int | None) -> list[dict]:
    """Leaves the logits and the plot of whether they decide; returns the lines of `metrics.jsonl`."""
    header = {"method": run.settings.method}
    if sequence_length is not None:
        header["block_size"] = str(sequence_length)
    arch_parameters.save(run.folder / "arch_parameters.safetensors", header)
    metrics = read_metrics(run.folder / "metrics.jsonl")
    plot_diagnostics(metrics, run.folder / "diagnostics.png")
    return metrics


def _candidate_examples(architecture, settings: SearchArguments) -> int:
    """Examples on which a candidate is evaluated."""
    wanted = settings.candidate_batches * settings.per_device_batch_size
    return min(wanted, len(architecture)) if hasattr(architecture, "__len__") else wanted
