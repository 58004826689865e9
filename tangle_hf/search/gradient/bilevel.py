"""The bi-level trainer: weights on one part of the data, architecture parameters on the other.

Each step is an architecture step on a batch of `arch_data`, then a weight step on a batch of `train_data` (`bilevel_step`).
It needs a model with a `space` whose forward takes `mixture=` and `arch=` and returns a loss, and knows nothing else about it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ...arch_parameters import ArchParameters, Mixture
from ...messages import get_logger
from ...samplers import sampler
from ...space import Architecture
from ..batches import Batches
from ..distillation import Teacher
from ..limits import Limits
from ..loop import (
    Metrics,
    check_settings,
    prepare,
    run_steps,
    same_random_numbers,
    step_size,
    weight_optimizer,
    weight_scheduler,
)
from ..search_cost import SearchCost
from ..settings import SearchArguments
from ..sharding import gather, shard
from .arch_front import ArchFront
from .bilevel_step import BilevelStep
from .budget_surface import Surface
from .diagnostics import Stability, describe, tracked_curves, undecided_message


logger = get_logger(__name__)


@dataclass
class SearchState:
    """Everything a checkpoint must hold beside the weights and their optimizer."""

    front: ArchFront
    arch_optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    train_batches: Batches
    arch_batches: Batches
    stability: list[Stability]
    cost: SearchCost
    step: int = 0

    @property
    def parts(self) -> tuple:
        """What has a state of its own."""
        levels = (self.front, self.arch_optimizer, self.scheduler, self.train_batches, self.arch_batches)
        return (*levels, *self.stability)

    def state_dict(self) -> dict:
        parts = [part.state_dict() for part in self.parts]
        own = {"step": self.step, "spent": self.cost.spent, "generator": self.generator.get_state()}
        return own | {"parts": parts}

    def load_state_dict(self, state: dict) -> None:
        self.step, self.cost.spent = state["step"], state["spent"]
        self.generator.set_state(state["generator"])
        for part, stored in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(stored)


def search(
    supernet: PreTrainedModel,
    train_data,
    arch_data,
    settings: SearchArguments,
    accelerator: Accelerator,
    evaluate: Callable[[Architecture], float | Mapping[str, float]] | None = None,
    evaluate_mixture: Callable[[Mixture], float] | None = None,
    limits: Limits | None = None,
    teacher: Teacher | None = None,
    saved: Callable[[], None] | None = None,
) -> ArchParameters | ArchFront | None:
    """Searches, and leaves checkpoints and `metrics.jsonl` in `settings.output_dir`.

    Args:
        supernet: An `Elastic*` model; trained in place.
        train_data: Data set of dicts of tensors, for the weights.
        arch_data: The same for the architecture parameters.
        settings: Settings.
        accelerator: Device, processes, precision and trackers.
        evaluate: Loss of one architecture with the current weights, or several scores with the loss among them; called
            every `eval_steps` on every process.
        evaluate_mixture: Loss under a mixture on the data of `evaluate`, for the discretisation gap. Neither of the two
            disturbs the search: random numbers that they draw are put back.
        limits: What the search keeps to; None makes them from the settings. `max_flops` of a language model needs
            `Limits.of(settings, supernet, sequence_length)`.
        teacher: A frozen net of the largest sizes, from which both levels learn beside the labels.
        saved: Called by the main process after each checkpoint.

    Returns:
        The trained architecture parameters, with `pareto` those of the whole front; None if the run was interrupted (a
        checkpoint was left).

    Raises:
        ValueError: `resume` without a checkpoint; limits that cannot be made or kept; or fp16.
        FloatingPointError: A loss, a gradient or a weight is not finite; the last good checkpoint is kept.
    """
    limits = limits or Limits.of(settings, supernet)
    check_settings(settings, supernet, accelerator, limits)
    run_dir = Path(settings.output_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    method = sampler(settings.sampler)
    front = ArchFront(supernet.space, method, limits.anchors, settings)
    for anchor in front.budgets:
        for budget in set(anchor) - set(Surface(method, anchor).budgets):
            logger.warning(
                f"max_{budget.cost} = {budget.text(budget.limit)} is no limit: even the largest architecture keeps to it; "
                "leave it out, or make it smaller"
            )
    if settings.arch_start_from is not None:
        for limit, anchor in zip(front.limits, front.anchors, strict=True):
            anchor.load(settings.arch_start_from)
            front.hold(limit)
    form = shard(supernet, accelerator)
    optimizer = weight_optimizer(supernet, settings)
    batch_size, workers = settings.per_device_batch_size, settings.dataloader_num_workers
    state = SearchState(
        front,
        torch.optim.Adam(
            front.parameters(),
            lr=settings.resolved_arch_learning_rate,
            betas=(settings.arch_adam_beta1, settings.arch_adam_beta2),
            weight_decay=settings.arch_weight_decay,
        ),
        weight_scheduler(optimizer, settings),
        torch.Generator().manual_seed(settings.seed),
        Batches(accelerator, train_data, batch_size, settings.seed, workers),
        Batches(accelerator, arch_data, batch_size, settings.seed + 1, workers),
        [Stability() for _ in front.anchors],
        SearchCost(supernet, step_size(settings, accelerator), limits.sequence_length),
    )
    model, optimizer = prepare(supernet, optimizer, state, settings, accelerator, single_paths=method.hard)
    metrics = Metrics(run_dir / "metrics.jsonl", accelerator, state.step)
    train_batches, arch_batches = iter(state.train_batches), iter(state.arch_batches)
    levels = BilevelStep(
        supernet,
        model,
        optimizer,
        state.scheduler,
        front,
        state.arch_optimizer,
        state.generator,
        state.cost,
        settings,
        accelerator,
        teacher,
    )

    def step() -> dict[str, float]:
        model.train()
        limit, record = front.draw(state.generator), {}
        train_micro = _take(train_batches, settings.gradient_accumulation_steps)
        if state.step >= settings.arch_warmup_steps:
            arch_micro = _take(arch_batches, settings.gradient_accumulation_steps)
            record["arch_loss"] = levels.arch_step(state.step, limit, arch_micro, train_micro)
        record["train_loss"] = levels.weight_step(state.step, limit, train_micro)
        return record

    def log(record: dict[str, float], due: bool) -> str:
        scores = (evaluate, evaluate_mixture) if due else (None, None)
        with same_random_numbers(accelerator):
            found = describe(supernet, state.front, settings, *scores)
        searched = state.step > settings.arch_warmup_steps  # before, everything is stable
        for stability, one in zip(state.stability, found, strict=True):
            one.numbers.update(stability.see(state.step, one.arch, not one.undecided, due and searched))
            record |= {name + one.label: number for name, number in one.numbers.items()}
        record |= {"learning_rate": state.scheduler.get_last_lr()[0], "search_cost": state.cost.spent}
        details = [one.details for one in found]  # of several anchors as a list
        curves = {name: value for one in found for name, value in tracked_curves(one, supernet.space).items()}
        metrics.write(state.step, record, details[0] if len(details) == 1 else {"front": details}, curves)
        doing = f"most likely {found[len(found) // 2].arch}" if searched else "weights only at first"
        return f"loss {record['train_loss']:.3f}, {doing}"

    def weights() -> list[torch.Tensor]:
        return [*model.parameters(), *model.buffers(), *front.parameters()]

    if not run_steps(
        step, log, lambda: _done(state, settings), weights, state, settings, accelerator, "search", saved
    ):
        return None
    if state.step < settings.max_steps:
        logger.warning(
            f"stopped after step {state.step} of {settings.max_steps}: the architecture was the same at "
            f"{settings.early_stop_evals} evaluations in a row and no row is undecided; --resume with another "
            "--early_stop_evals, or none, goes on"
        )
    ranks = getattr(supernet.config, "layer_ranks", None)
    if message := undecided_message(describe(supernet, front, settings), settings, supernet.space, ranks):
        logger.warning(message)
    # Mixed precision wraps the forward; what is evaluated and exported from here on is the plain model.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    gather(supernet, form, accelerator)
    return front if settings.pareto else front.anchors[0]


def _take(batches: Iterator[dict], count: int) -> list[dict]:
    return [next(batches) for _ in range(count)]


def _done(state: SearchState, settings: SearchArguments) -> bool:
    """Whether the last step is over, or the evaluation after it says that nothing changes any more."""
    enough = settings.early_stop_evals
    settled = enough is not None and all(s.settled(state.step, enough) for s in state.stability)
    return state.step >= settings.max_steps or settled
