"""The bi-level trainer: weights on one part of the data, architecture parameters on the other.

TangleNAS (arXiv:2312.10440, algorithm 1), first order: each step is an architecture step on a batch of `arch_data`, then
a weight step on a batch of `train_data`. It needs a model with a `space` whose forward takes `mixture=` and `arch=` and
returns a loss, and knows nothing else about it.
"""

import json
import signal
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_scheduler

from ..arch import ArchParameters, argmax
from ..samplers import Sampler, sampler
from ..space import Architecture
from .arguments import SearchArguments
from .budget import Surface, project_gradient, return_to_surface, start_on_surface
from .checkpoints import latest_checkpoint, save_checkpoint
from .choose import budgets_of, check_budgets, costs, current_best
from .data import Batches
from .unrolled import backward, frozen, unrolled_backward


logger = get_logger(__name__)


@dataclass
class SearchState:
    """Everything a checkpoint must hold beside the weights and their optimizer."""

    arch_parameters: ArchParameters
    arch_optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    train_batches: Batches
    arch_batches: Batches
    step: int = 0

    def state_dict(self) -> dict:
        parts = (self.arch_parameters, self.arch_optimizer, self.scheduler, self.train_batches, self.arch_batches)
        return {"step": self.step, "generator": self.generator.get_state(), "parts": [p.state_dict() for p in parts]}

    def load_state_dict(self, state: dict) -> None:
        self.step = state["step"]
        self.generator.set_state(state["generator"])
        parts = (self.arch_parameters, self.arch_optimizer, self.scheduler, self.train_batches, self.arch_batches)
        for part, stored in zip(parts, state["parts"], strict=True):
            part.load_state_dict(stored)


def search(
    supernet: PreTrainedModel,
    train_data,
    arch_data,
    arguments: SearchArguments,
    accelerator: Accelerator,
    evaluate: Callable[[Architecture], float | Mapping[str, float]] | None = None,
    sequence_length: int | None = None,
) -> ArchParameters | None:
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

    Returns:
        The trained architecture parameters; None if the run was interrupted (a checkpoint was left).

    Raises:
        ValueError: `resume` without a checkpoint, precision is fp16, or no architecture keeps to the budgets.
        FloatingPointError: A loss is not finite; the last good checkpoint is kept.
    """
    if accelerator.mixed_precision == "fp16":
        raise ValueError(
            "mixed_precision=fp16 is not supported: two losses cannot share its scaler; choose bf16 or no"
        )
    check_budgets(arguments, supernet, sequence_length)
    run_dir = Path(arguments.output_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    method = sampler(arguments.sampler)
    arch_parameters = ArchParameters(supernet.space, seed=arguments.seed)
    if arguments.arch_start_from is not None:
        arch_parameters.load(arguments.arch_start_from)
    budgets = budgets_of(arguments, supernet, sequence_length)
    surface = Surface(method, budgets, at_most=arguments.budget_mode == "at_most")
    for budget in set(budgets) - set(surface.budgets):
        logger.warning(f"max_{budget.cost} = {budget.limit:,} is no limit: even the largest architecture keeps to it")
    _assign(arch_parameters.logits, start_on_surface(surface, arch_parameters.logits))
    optimizer = _weight_optimizer(supernet, arguments)
    batch_size, workers = arguments.per_device_batch_size, arguments.dataloader_num_workers
    state = SearchState(
        arch_parameters,
        torch.optim.Adam(
            arch_parameters.parameters(),
            lr=arguments.resolved_arch_learning_rate,
            betas=(arguments.arch_adam_beta1, arguments.arch_adam_beta2),
            weight_decay=arguments.arch_weight_decay,
        ),
        _scheduler(optimizer, arguments),
        torch.Generator().manual_seed(arguments.seed),
        Batches(accelerator, train_data, batch_size, arguments.seed, workers),
        Batches(accelerator, arch_data, batch_size, arguments.seed + 1, workers),
    )
    if arguments.activation_checkpointing:
        supernet.activation_checkpointing_enable()
    if method.hard:  # a single path leaves parameters without a gradient, which DDP must be told
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    # The scheduler stays unprepared: accelerate would step it once per process.
    model, optimizer = accelerator.prepare(supernet, optimizer)
    accelerator.register_for_checkpointing(state)
    if arguments.resume:
        _resume(accelerator, run_dir, state)
    metrics = _Metrics(run_dir / "metrics.jsonl", accelerator, state.step)
    train_batches, arch_batches = iter(state.train_batches), iter(state.arch_batches)
    bar = tqdm(
        total=arguments.max_steps,
        initial=state.step,
        desc="search",
        disable=not accelerator.is_main_process,
        leave=True,
    )
    with _stop_on_signal(accelerator), bar:
        while state.step < arguments.max_steps:
            model.train()
            progress = state.step / arguments.max_steps
            record = {}
            train_micro = [next(train_batches) for _ in range(arguments.gradient_accumulation_steps)]
            if not method.single_path and state.step >= arguments.arch_warmup_steps:
                micro = [next(arch_batches) for _ in range(arguments.gradient_accumulation_steps)]
                record["arch_loss"] = _arch_step(
                    model, supernet, state, method, surface, progress, micro, train_micro, accelerator, arguments
                )
            record["train_loss"] = _weight_step(
                model, supernet, optimizer, state, method, progress, train_micro, accelerator, arguments
            )
            state.step += 1
            bar.update()
            last = state.step == arguments.max_steps
            evaluated = evaluate is not None and (last or state.step % arguments.eval_steps == 0)
            if evaluated or last or state.step % arguments.logging_steps == 0:
                best = current_best(supernet, arch_parameters, arguments, budgets)
                if evaluated:
                    scores = evaluate(supernet.space.largest if method.single_path else best)
                    scores = scores if isinstance(scores, Mapping) else {"loss": scores}
                    record |= {f"validation_{name}": score for name, score in scores.items()}
                record |= costs(arch_parameters, best, arguments, budgets)
                metrics.write(state, record | {"learning_rate": state.scheduler.get_last_lr()[0]}, method, best)
                bar.set_postfix_str(f"loss {record['train_loss']:.3f} {best}")
            stop = accelerator.check_trigger()
            if stop or last or state.step % arguments.save_steps == 0:
                save_checkpoint(accelerator, run_dir, state.step)
            if stop and not last:
                return None
    # Mixed precision wraps the forward; what is evaluated and exported from here on is the plain model.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return arch_parameters


def _arch_step(model, supernet, state, method, surface, progress, micro, train_micro, accelerator, arguments) -> float:
    """One step of the logits. Weights are frozen, so no weight gradient is computed; returns the loss."""
    mixture = state.arch_parameters.sample(method, progress, state.generator)
    # Micro-batches share one draw. Its leaves collect their gradients, which then go through the sampler once.
    leaves = {name: rows.detach().requires_grad_() for name, rows in mixture.items()}
    if arguments.unrolled:
        rate = state.scheduler.get_last_lr()[0]
        total = unrolled_backward(model, supernet, leaves, micro, train_micro, rate, accelerator)
    else:
        with (
            frozen(supernet),
            accelerator.no_sync(model),
        ):  # there is nothing to synchronise: no parameter has a gradient
            total = backward(model, leaves, micro, accelerator)
    total = _finite(accelerator.reduce(total, "mean"), "architecture", state.step)
    # A dimension with one choice may have no gradient: its share is 1.
    grads = [torch.zeros_like(rows) if rows.grad is None else rows.grad for rows in leaves.values()]
    grads = [accelerator.reduce(grad.to(accelerator.device), "mean").cpu() for grad in grads]
    torch.autograd.backward(list(mixture.values()), grads)
    logits = state.arch_parameters.logits
    if arguments.arch_kl_scale:
        (arguments.arch_kl_scale * sum(method.divergence(rows) for rows in logits.values())).backward()
    if surface.budgets:
        gradients = {n: torch.zeros_like(rows) if rows.grad is None else rows.grad for n, rows in logits.items()}
        for name, gradient in project_gradient(surface, logits, gradients).items():
            logits[name].grad = gradient
    torch.nn.utils.clip_grad_norm_(state.arch_parameters.parameters(), arguments.arch_max_grad_norm)
    state.arch_optimizer.step()
    state.arch_optimizer.zero_grad()
    _assign(logits, return_to_surface(surface, logits))
    return total


@torch.no_grad()
def _assign(logits: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, rows in values.items():
        logits[name].copy_(rows)


def _weight_step(model, supernet, optimizer, state, method, progress, micro, accelerator, arguments) -> float:
    """One step of the weights under a mixture drawn for it, or on one path; returns the loss."""
    with torch.no_grad():
        mixture = state.arch_parameters.sample(method, progress, state.generator)
    # Under one-hot shares the superposition is one subnet (law 1), and weights need no gradient of the shares: run it as
    # a single path, at its own cost.
    chosen = {"arch": argmax(supernet.space, mixture)} if method.hard else {"mixture": mixture}
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
    total = _finite(accelerator.reduce(total, "mean"), "training", state.step)
    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
    optimizer.step()
    state.scheduler.step()
    optimizer.zero_grad()
    return total


def _finite(loss: Tensor, which: str, step: int) -> float:
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"the {which} loss is {loss.item()} at step {step}; the last good checkpoint is kept. Try a smaller "
            "--learning_rate, more --warmup_steps, a smaller --max_grad_norm, or --mixed_precision no"
        )
    return loss.item()


def _weight_optimizer(supernet: PreTrainedModel, arguments: SearchArguments) -> torch.optim.Optimizer:
    """AdamW or SGD; weight decay on matrices and kernels only."""
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": arguments.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if arguments.optimizer == "sgd":
        momentum = arguments.sgd_momentum
        return torch.optim.SGD(
            groups, lr=arguments.learning_rate, momentum=momentum, nesterov=arguments.nesterov and momentum > 0
        )
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(arguments.adam_beta1, arguments.adam_beta2))


def _scheduler(optimizer: torch.optim.Optimizer, arguments: SearchArguments) -> torch.optim.lr_scheduler.LRScheduler:
    return get_scheduler(
        "cosine_with_min_lr",
        optimizer,
        num_warmup_steps=arguments.warmup_steps,
        num_training_steps=arguments.max_steps,
        scheduler_specific_kwargs={"min_lr": arguments.min_learning_rate},
    )


def _resume(accelerator: Accelerator, run_dir: Path, state: SearchState) -> None:
    found = latest_checkpoint(run_dir)
    if found is None:
        raise ValueError(f"{run_dir}/checkpoints has no whole checkpoint to resume from; start without --resume")
    folder, step = found
    accelerator.load_state(str(folder))
    logger.info(f"resumed from {folder} after step {step}")


class _Metrics:
    """`metrics.jsonl`, and the same numbers to accelerate's trackers. Lines after a resumed step are dropped."""

    def __init__(self, path: Path, accelerator: Accelerator, step: int):
        self.path, self.accelerator = path, accelerator
        if accelerator.is_main_process:
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(line + "\n" for line in kept))
            partial.rename(path)

    def write(self, state: SearchState, record: Mapping[str, float], method: Sampler, best: Architecture) -> None:
        """One line: step, losses, costs, the best architecture so far, entropy and the shares of every dimension."""
        arch_parameters = state.arch_parameters
        entropy = arch_parameters.entropy(method)
        self.accelerator.log({**record, "entropy": entropy}, step=state.step)
        if self.accelerator.is_main_process:
            shares = {name: rows.tolist() for name, rows in arch_parameters.probabilities(method).items()}
            line = {"step": state.step, **record, "entropy": entropy}
            line |= {"arch": best.to_dict(), "shares": shares}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [line for line in lines[:-1] if line]  # a killed process may leave half a line at the end


@contextmanager
def _stop_on_signal(accelerator: Accelerator):
    """Ctrl-C and SIGTERM end the search after the current step, with a checkpoint; a second Ctrl-C ends it at once."""

    def request(signum, frame):
        accelerator.set_trigger()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
