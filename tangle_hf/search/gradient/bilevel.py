"""The bi-level trainer: weights on one part of the data, architecture parameters on the other.

TangleNAS (arXiv:2312.10440, algorithm 1): each step is an architecture step on a batch of `arch_data`, then
a weight step on a batch of `train_data`. It needs a model with a `space` whose forward takes `mixture=` and `arch=` and
returns a loss, and knows nothing else about it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from transformers import PreTrainedModel

from ...arch_parameters import ArchParameters, Mixture, argmax
from ...samplers import sampler
from ...space import Architecture
from ..batches import Batches
from ..loop import (
    Metrics,
    check_settings,
    finite,
    prepare,
    run_steps,
    same_random_numbers,
    step_size,
    weight_optimizer,
    weight_scheduler,
)
from ..search_cost import SearchCost
from ..settings import SearchArguments
from .arch_front import ArchFront, arch_front
from .budget_surface import Surface
from .diagnostics import Stability, describe, undecided_message
from .unrolled import backward, frozen, unrolled_backward


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
    arguments: SearchArguments,
    accelerator: Accelerator,
    evaluate: Callable[[Architecture], float | Mapping[str, float]] | None = None,
    sequence_length: int | None = None,
    evaluate_mixture: Callable[[Mixture], float] | None = None,
) -> ArchParameters | ArchFront | None:
    """Searches, and leaves checkpoints and `metrics.jsonl` in `arguments.output_dir`.

    Args:
        supernet: An `Elastic*` model; trained in place.
        train_data: Data set of dicts of tensors, for the weights.
        arch_data: The same for the architecture parameters.
        arguments: Settings.
        accelerator: Device, processes, precision and trackers.
        evaluate: Loss of one architecture with the current weights, or several scores with the loss among them; called
            every `eval_steps` on every process.
        sequence_length: Tokens of an example, which `max_flops` of a language model needs.
        evaluate_mixture: Loss under a mixture on the data of `evaluate`, for the discretisation gap. Neither of the two
            disturbs the search: random numbers that they draw are put back.

    Returns:
        The trained architecture parameters, with `pareto` those of the whole front; None if the run was interrupted (a
        checkpoint was left).

    Raises:
        ValueError: `resume` without a checkpoint, or as `check_settings`.
        FloatingPointError: A loss is not finite; the last good checkpoint is kept.
    """
    check_settings(arguments, supernet, accelerator, sequence_length)
    run_dir = Path(arguments.output_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    method = sampler(arguments.sampler)
    front = arch_front(arguments, supernet, sequence_length)
    for anchor in front.budgets:
        for budget in set(anchor) - set(Surface(method, anchor).budgets):
            logger.warning(
                f"max_{budget.cost} = {budget.text(budget.limit)} is no limit: even the largest architecture keeps to it"
            )
    if arguments.arch_start_from is not None:
        for limit, anchor in zip(front.limits, front.anchors, strict=True):
            anchor.load(arguments.arch_start_from)
            front.hold(limit)
    optimizer = weight_optimizer(supernet, arguments)
    batch_size, workers = arguments.per_device_batch_size, arguments.dataloader_num_workers
    state = SearchState(
        front,
        torch.optim.Adam(
            front.parameters(),
            lr=arguments.resolved_arch_learning_rate,
            betas=(arguments.arch_adam_beta1, arguments.arch_adam_beta2),
            weight_decay=arguments.arch_weight_decay,
        ),
        weight_scheduler(optimizer, arguments),
        torch.Generator().manual_seed(arguments.seed),
        Batches(accelerator, train_data, batch_size, arguments.seed, workers),
        Batches(accelerator, arch_data, batch_size, arguments.seed + 1, workers),
        [Stability() for _ in front.anchors],
        SearchCost(supernet, step_size(arguments, accelerator), sequence_length),
    )
    model, optimizer = prepare(supernet, optimizer, state, arguments, accelerator, single_paths=method.hard)
    metrics = Metrics(run_dir / "metrics.jsonl", accelerator, state.step)
    train_batches, arch_batches = iter(state.train_batches), iter(state.arch_batches)

    def step() -> dict[str, float]:
        model.train()
        progress, record = state.step / arguments.max_steps, {}
        limit = front.draw(state.generator)
        train_micro = [next(train_batches) for _ in range(arguments.gradient_accumulation_steps)]
        if state.step >= arguments.arch_warmup_steps:
            micro = [next(arch_batches) for _ in range(arguments.gradient_accumulation_steps)]
            record["arch_loss"] = _arch_step(
                model, supernet, state, method, limit, progress, micro, train_micro, accelerator, arguments
            )
        record["train_loss"] = _weight_step(
            model, supernet, optimizer, state, method, limit, progress, train_micro, accelerator, arguments
        )
        return record

    def log(record: dict[str, float], due: bool) -> str:
        scores = (evaluate, evaluate_mixture) if due else (None, None)
        with same_random_numbers(accelerator):
            found = describe(supernet, state.front, arguments, *scores)
        searched = state.step > arguments.arch_warmup_steps  # before, everything is stable
        for stability, one in zip(state.stability, found, strict=True):
            one.numbers.update(stability.see(state.step, one.arch, not one.undecided, due and searched))
            record |= {name + one.label: number for name, number in one.numbers.items()}
        record |= {"learning_rate": state.scheduler.get_last_lr()[0], "search_cost": state.cost.spent}
        details = [one.details for one in found]  # of several anchors as a list
        entropies = {
            f"entropy/{name}/{row}{one.label}": value
            for one in found
            for name, rows in one.details["entropies"].items()
            for row, value in enumerate(rows)
        }
        metrics.write(state.step, record, details[0] if len(details) == 1 else {"front": details}, entropies)
        return f"loss {record['train_loss']:.3f} {found[len(found) // 2].arch}"

    if not run_steps(step, log, lambda: _done(state, arguments), state, arguments, accelerator, "search"):
        return None
    if state.step < arguments.max_steps:
        logger.warning(
            f"stopped after step {state.step} of {arguments.max_steps}: the architecture was the same at "
            f"{arguments.early_stop_evals} evaluations in a row and no row is undecided; --resume with another "
            "--early_stop_evals, or none, goes on"
        )
    if message := undecided_message(describe(supernet, front, arguments), arguments):
        logger.warning(message)
    # Mixed precision wraps the forward; what is evaluated and exported from here on is the plain model.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return front if arguments.pareto else front.anchors[0]


def _done(state: SearchState, arguments: SearchArguments) -> bool:
    """Whether the last step is over, or the evaluation after it says that nothing changes any more."""
    enough = arguments.early_stop_evals
    settled = enough is not None and all(s.settled(state.step, enough) for s in state.stability)
    return state.step >= arguments.max_steps or settled


def _arch_step(model, supernet, state, method, limit, progress, micro, train_micro, accelerator, arguments) -> float:
    """One step of the logits. Weights are frozen, so no weight gradient is computed; returns the loss."""
    arch_parameters = state.front.at(limit)
    mixture = arch_parameters.sample(method, progress, state.generator)
    # Micro-batches share one draw. Its leaves collect their gradients, which then go through the sampler once.
    leaves = {name: rows.detach().requires_grad_() for name, rows in mixture.items()}
    if arguments.unrolled:
        rate = state.scheduler.get_last_lr()[0]
        total = unrolled_backward(model, supernet, leaves, micro, train_micro, rate, accelerator)
    else:
        # There is nothing to synchronise: no parameter has a gradient.
        with frozen(supernet), accelerator.no_sync(model):
            total = backward(model, leaves, micro, accelerator)
    total = finite(accelerator.reduce(total, "mean"), "architecture", state.step)
    # A dimension with one choice may have no gradient: its share is 1.
    grads = [torch.zeros_like(rows) if rows.grad is None else rows.grad for rows in leaves.values()]
    grads = [accelerator.reduce(grad.to(accelerator.device), "mean").cpu() for grad in grads]
    torch.autograd.backward(list(mixture.values()), grads)
    if arguments.arch_kl_scale:
        (arguments.arch_kl_scale * sum(map(method.divergence, arch_parameters.logits.values()))).backward()
    state.cost.add_arch_step(arguments.unrolled)
    state.front.collect(limit, arch_parameters)
    torch.nn.utils.clip_grad_norm_(state.front.parameters(), arguments.arch_max_grad_norm)
    state.arch_optimizer.step()
    state.arch_optimizer.zero_grad()
    state.front.hold(limit)
    return total


def _weight_step(model, supernet, optimizer, state, method, limit, progress, micro, accelerator, arguments) -> float:
    """One step of the weights under a mixture drawn for it, or on one path; returns the loss."""
    with torch.no_grad():
        mixture = state.front.at(limit).sample(method, progress, state.generator)
    # Under one-hot shares the superposition is one subnet (law 1), and weights need no gradient of the shares: run it as
    # a single path, at its own cost.
    chosen = {"arch": argmax(supernet.space, mixture)} if method.hard else {"mixture": mixture}
    state.cost.add_weight_step(chosen.get("arch"))
    total = 0.0
    for number, batch in enumerate(micro, 1):
        if number < len(micro):
            with accelerator.no_sync(model):
                loss = model(**batch, **chosen).loss / len(micro)
                accelerator.backward(loss)
        else:
            loss = model(**batch, **chosen).loss / len(micro)
            accelerator.backward(loss)
        total += loss.detach()
    total = finite(accelerator.reduce(total, "mean"), "training", state.step)
    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
    optimizer.step()
    state.scheduler.step()
    optimizer.zero_grad()
    return total
