"""The first stage of two-stage methods: the weights of a supernet, trained on single paths.

Each step runs the subnets that `path_rule` names on one batch and adds up their gradients. In a sandwich all learn from the
labels, and all but the largest, on request, from its outputs (in-place distillation). It needs a model with a `space` whose
forward takes `arch=` and returns a loss and logits, and knows nothing else about it.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from ...space import Architecture
from ..batches import Batches
from ..distillation import Teacher, distillation_loss, training_loss
from ..limits import Limits
from ..loop import (
    Metrics,
    check_settings,
    clip_gradients,
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
from ..sharding import gather, shard
from .paths import path_rule


@dataclass
class TrainState:
    """Everything a checkpoint must hold beside the weights and their optimizer."""

    scheduler: torch.optim.lr_scheduler.LRScheduler
    batches: Batches
    cost: SearchCost
    step: int = 0

    def state_dict(self) -> dict:
        parts = [self.scheduler.state_dict(), self.batches.state_dict()]
        return {"step": self.step, "spent": self.cost.spent, "parts": parts}

    def load_state_dict(self, state: dict) -> None:
        self.step, self.cost.spent = state["step"], state["spent"]
        for part, stored in zip((self.scheduler, self.batches), state["parts"], strict=True):
            part.load_state_dict(stored)


def train_single_paths(
    supernet: PreTrainedModel,
    train_data,
    settings: SearchArguments,
    accelerator: Accelerator,
    evaluate: Callable[[Architecture], float | Mapping[str, float]] | None = None,
    limits: Limits | None = None,
    teacher: Teacher | None = None,
    saved: Callable[[], None] | None = None,
) -> SearchCost | None:
    """Trains the weights, and leaves checkpoints and `metrics.jsonl` in `settings.output_dir`.

    Args:
        supernet: An `Elastic*` model; trained in place.
        train_data: Data set of dicts of tensors.
        settings: Settings.
        accelerator: Device, processes, precision and trackers.
        evaluate: Scores of one architecture with the current weights, the loss among them; called with the largest every
            `eval_steps` on every process.
        limits: Those of the search; None makes them from the settings.
        teacher: A frozen net of the largest sizes, from which every path learns beside the labels.
        saved: Called by the main process after each checkpoint.

    Returns:
        What the training cost; None if it was interrupted (a checkpoint was left).

    Raises:
        ValueError: `resume` without a checkpoint; limits that cannot be made or kept; or fp16.
        FloatingPointError: A loss, a gradient or a weight is not finite; the last good checkpoint is kept.
    """
    limits = limits or Limits.of(settings, supernet)
    check_settings(settings, supernet, accelerator, limits)
    run_dir, largest = Path(settings.output_dir), supernet.space.largest
    run_dir.mkdir(parents=True, exist_ok=True)
    paths = path_rule(settings, supernet, limits)
    form = shard(supernet, accelerator)
    optimizer = weight_optimizer(supernet, settings)
    workers = settings.dataloader_num_workers
    state = TrainState(
        weight_scheduler(optimizer, settings),
        Batches(accelerator, train_data, settings.per_device_batch_size, settings.seed, workers),
        SearchCost(supernet, step_size(settings, accelerator), limits.sequence_length),
    )
    model, optimizer = prepare(supernet, optimizer, state, settings, accelerator, single_paths=True)
    metrics = Metrics(run_dir / "metrics.jsonl", accelerator, state.step)
    batches = iter(state.batches)

    def step() -> dict[str, float]:
        model.train()
        archs = paths(state.step)
        micro = [next(batches) for _ in range(settings.gradient_accumulation_steps)]
        for arch in archs:
            state.cost.add_weight_step(arch)
        if teacher is not None:
            state.cost.add_teacher()
        return _weight_step(model, optimizer, state, archs, micro, accelerator, settings, teacher)

    def log(record: dict[str, float], due: bool) -> str:
        if due and evaluate is not None:
            with same_random_numbers(accelerator):
                scores = evaluate(largest)
            scores = scores if isinstance(scores, Mapping) else {"loss": scores}
            record |= {f"validation_{name}": score for name, score in scores.items()}
        record |= {"learning_rate": state.scheduler.get_last_lr()[0], "search_cost": state.cost.spent}
        metrics.write(state.step, record, {"arch": largest.to_dict()})
        return f"loss {record['train_loss']:.3f}"

    def weights() -> list[Tensor]:
        return [*model.parameters(), *model.buffers()]

    def done() -> bool:
        return state.step >= settings.max_steps

    if not run_steps(step, log, done, weights, state, settings, accelerator, "training", saved):
        return None
    # Mixed precision wraps the forward; what is evaluated and exported from here on is the plain model.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    gather(supernet, form, accelerator)
    return state.cost


def _weight_step(model, optimizer, state, archs, micro, accelerator, settings, teacher) -> dict[str, float]:
    """One step on the mean of the subnets' losses, so that clipping means the same for any number; returns the losses."""
    total = torch.zeros(len(archs), device=accelerator.device)
    for number, batch in enumerate(micro):
        largest, told = None, None if teacher is None else _told(teacher, batch, accelerator)
        for path, arch in enumerate(archs):
            last = number == len(micro) - 1 and path == len(archs) - 1
            with nullcontext() if last else accelerator.no_sync(model):
                output = model(**batch, arch=arch)
                loss = training_loss(output, batch, teacher, accelerator, told)
                if largest is not None and settings.distillation:
                    loss = torch.lerp(loss, distillation_loss(output.logits, largest, batch), settings.distillation)
                loss = loss / len(micro)
                accelerator.backward(loss / len(archs))
            total[path] += loss.detach()
            largest = output.logits.detach() if largest is None else largest
    first, *others = (finite(loss, "training loss", state.step) for loss in accelerator.reduce(total, "mean"))
    clip_gradients(model, settings, accelerator, state.step)
    optimizer.step()
    state.scheduler.step()
    optimizer.zero_grad()
    return {"train_loss": first} | ({"subnets_loss": sum(others) / len(others)} if others else {})


def _told(teacher: Teacher, batch: dict, accelerator: Accelerator) -> Tensor:
    """What the teacher says of a batch, once for all paths."""
    with accelerator.autocast():
        return teacher.logits(batch)
