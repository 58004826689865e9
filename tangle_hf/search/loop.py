"""What both trainers, of mixtures (`bilevel`) and of single paths (`single_paths`), do around their steps."""

import json
import math
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from tqdm.std import tqdm
from transformers import PreTrainedModel, get_scheduler

from .. import messages
from ..errors import writing
from ..files import to_json
from ..messages import get_logger
from .checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from .limits import Limits, check_latency
from .settings import SearchArguments
from .two_stage.proposals import Proposals
from .weight_decay import decay_groups


logger = get_logger(__name__)


def check_settings(
    settings: SearchArguments, supernet: PreTrainedModel, accelerator: Accelerator, limits: Limits
) -> None:
    """Warns of settings that the method does not read, and of a latency table of another machine.

    Raises:
        ValueError: Precision is fp16, no step is left for the architecture, no architecture keeps to the budgets or too few to
            be drawn, finalists of a space of sizes have no budget, or the latency table is missing or was measured under other
            conditions.
    """
    if accelerator.mixed_precision == "fp16":
        raise ValueError(
            "mixed_precision=fp16 is not supported: two losses cannot share its scaler; choose bf16 or no"
        )
    if not settings.resolved_method.two_stage and settings.arch_warmup_steps >= settings.max_steps:
        raise ValueError(
            f"arch_warmup_ratio={settings.arch_warmup_ratio} leaves none of max_steps={settings.max_steps} for an architecture "
            "step; make it smaller, or the search longer"
        )
    warn_of_unread(settings)
    limits.check(settings, supernet)
    if (
        settings.proposed_finalists
        and supernet.space.ordered
        and not settings.given_limits()
        and settings.pareto is None
    ):
        raise ValueError(
            f"finalists={settings.finalists} need a budget in a space of sizes: a short training prefers smaller nets, which "
            "learn faster; give max_params, max_flops or another"
        )
    if settings.resolved_method.two_stage:  # refuse before the first stage what the second could not draw
        Proposals(settings, supernet, limits).random(random.Random(settings.seed))
    for difference in check_latency(
        limits.latency_table, settings, supernet, limits.sequence_length, accelerator.device
    ):
        logger.warning(f"the latency table was measured under other conditions: {difference}")


def warn_of_unread(settings: SearchArguments) -> None:
    """One line on the settings that have no effect, if there are any."""
    unread = settings.settings_without_effect()
    reasons = {why: ", ".join(name for name in unread if unread[name] == why) for why in unread.values()}
    if reasons:
        text = "; ".join(f"{names} {why}" for why, names in reasons.items())
        logger.warning(f"no effect: {text}; leave them out")


def weight_optimizer(supernet: PreTrainedModel, settings: SearchArguments) -> torch.optim.Optimizer:
    """AdamW or SGD; weight decay on matrices, kernels and token embeddings only, see `weight_decay.decays`."""
    groups = decay_groups(supernet, settings.weight_decay)
    if settings.optimizer == "sgd":
        momentum, nesterov = settings.sgd_momentum, settings.nesterov and settings.sgd_momentum > 0
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.adam_beta1, settings.adam_beta2))


def weight_scheduler(
    optimizer: torch.optim.Optimizer, settings: SearchArguments
) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up, then a cosine to the smallest learning rate."""
    return get_scheduler(
        "cosine_with_min_lr",
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.max_steps,
        scheduler_specific_kwargs={"min_lr": settings.min_learning_rate},
    )


def _resume(accelerator: Accelerator, run_dir: Path) -> None:
    found = latest_checkpoint(run_dir)
    if found is None:
        raise ValueError(
            f"{run_dir}/checkpoints has no whole checkpoint to resume from; start without --resume, in another folder if this "
            "one holds what is worth keeping"
        )
    folder, step = found
    load_checkpoint(accelerator, folder)
    logger.info(f"resumed from {folder} after step {step}")


def finite(value: Tensor, which: str, step: int) -> float:
    """A loss or a norm as a number.

    Raises:
        FloatingPointError: It is not finite.
    """
    if not torch.isfinite(value):
        raise FloatingPointError(
            f"the {which} is {value.item()} at step {step}; the last good checkpoint is kept. Try a smaller "
            "--learning_rate, more --warmup_steps, a smaller --max_grad_norm, or --mixed_precision no"
        )
    return value.item()


def clip_gradients(model: nn.Module, settings: SearchArguments, accelerator: Accelerator, step: int) -> None:
    """Scales the gradients of the weights down to `max_grad_norm`; 0 leaves them as they are.

    Raises:
        FloatingPointError: They are not finite. No step may be taken with them.
    """
    norm = accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm or math.inf)
    if norm is not None:  # DeepSpeed clips by itself and does not return the norm
        finite(norm, "norm of the training gradient", step)


def check_weights(weights: Iterable[Tensor], accelerator: Accelerator, step: int) -> None:
    """Refuses weights that are not finite: a checkpoint of them would be taken up by `--resume`.

    Raises:
        FloatingPointError: On every process, if those of one are not.
    """
    parts = [
        getattr(tensor, "to_local", lambda tensor=tensor: tensor)() for tensor in weights
    ]  # of FSDP, its own shard
    broken = [(~torch.isfinite(part)).any().to(accelerator.device) for part in parts if part.is_floating_point()]
    count = accelerator.reduce(torch.stack(broken).sum().float(), "sum")
    if count:
        raise FloatingPointError(
            f"weights are not finite after step {step}; the last good checkpoint is kept. Try a smaller --learning_rate, more "
            "--warmup_steps, a smaller --max_grad_norm, or --mixed_precision no"
        )


def step_size(settings: SearchArguments, accelerator: Accelerator) -> int:
    """Examples of a weight step, over all processes and micro-batches."""
    return settings.per_device_batch_size * settings.gradient_accumulation_steps * accelerator.num_processes


def prepare(
    supernet: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    state,
    settings: SearchArguments,
    accelerator: Accelerator,
    single_paths: bool,
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and optimizer as accelerate runs them, with everything as in the last checkpoint if the run is resumed.

    Args:
        supernet: What is trained.
        optimizer: The optimizer of its weights. The scheduler stays unprepared: accelerate would step it once per process.
        state: What a checkpoint holds beside both.
        settings: Settings.
        accelerator: Device, processes and precision.
        single_paths: Whether a weight step leaves parameters without a gradient, which DDP must be told.

    Raises:
        ValueError: `resume` without a checkpoint, or `compile_blocks` of a family without blocks that are alike.
    """
    if settings.activation_checkpointing:
        supernet.activation_checkpointing_enable()
    if settings.compile_blocks and not settings.resolved_method.two_stage:
        supernet.compile_blocks()
    if single_paths:
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    held = [list(group["params"]) for group in optimizer.param_groups]
    model, optimizer = accelerator.prepare(supernet, optimizer)
    # accelerate tells sharded weights by their address, and all shards that are empty have the same.
    if accelerator.is_fsdp2:
        for group, weights in zip(optimizer.param_groups, held, strict=True):
            group["params"] = weights
    accelerator.register_for_checkpointing(state)
    if settings.resume:
        _resume(accelerator, Path(settings.output_dir))
    return model, optimizer


def run_steps(
    step: Callable[[], dict[str, float]],
    log: Callable[[dict[str, float], bool], str],
    done: Callable[[], bool],
    weights: Callable[[], Iterable[Tensor]],
    state,
    settings: SearchArguments,
    accelerator: Accelerator,
    name: str,
    saved: Callable[[], None] | None = None,
) -> bool:
    """Steps until it is done or was asked to stop; saves and shows progress.

    Args:
        step: Makes a step and gives its losses.
        log: Takes the losses and whether an evaluation is due; gives what the progress bar is to show.
        done: Whether no step is left.
        weights: Gives all that is trained, and batch norms' statistics.
        state: Its `step` counts.
        settings: Settings.
        accelerator: Processes.
        name: The name that the progress bar shows.
        saved: Called by the main process after each checkpoint.

    Returns:
        False if it was stopped before it was done; a checkpoint was left.

    Raises:
        FloatingPointError: Weights are not finite where they would be evaluated or saved.
    """
    bar = progress_bar(accelerator, settings.max_steps, state.step, name)
    with stop_on_signal(accelerator), bar:
        while not done():
            record = step()
            state.step += 1
            bar.update()
            due = state.step == settings.max_steps or state.step % settings.eval_steps == 0
            logs = due or state.step % settings.logging_steps == 0
            if logs:
                check_weights(weights(), accelerator, state.step)
                bar.set_postfix_str(log(record, due), refresh=False)
            stop, finished = accelerator.check_trigger(), done()
            if stop or finished or state.step % settings.save_steps == 0:
                if not logs:
                    check_weights(weights(), accelerator, state.step)
                save_checkpoint(accelerator, Path(settings.output_dir), state.step)
                if saved is not None and accelerator.is_main_process:
                    saved()
            if stop and not finished:
                return False
    return True


def progress_bar(accelerator: Accelerator, total: int, done: int, name: str) -> tqdm:
    """Progress that the main process shows and leaves."""
    return messages.progress_bar(total, name, done, accelerator.is_main_process)


@contextmanager
def same_random_numbers(accelerator: Accelerator) -> Iterator[None]:
    """Random numbers drawn inside are put back, so that an evaluation does not change the search (a data loader draws one)."""
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


class Metrics:
    """`metrics.jsonl`, and its numbers to accelerate's trackers. Lines after a resumed step are dropped."""

    def __init__(self, path: Path, accelerator: Accelerator, step: int):
        self.path, self.accelerator = path, accelerator
        if accelerator.is_main_process:
            keep_records(path, lambda record: record["step"] <= step)

    def write(
        self, step: int, numbers: Mapping[str, float], details: Mapping, tracked: Mapping[str, float] | None = None
    ) -> None:
        """One line: the step, numbers and details. Trackers get the numbers and what is `tracked`."""
        self.accelerator.log({**numbers, **(tracked or {})}, step=step)
        if self.accelerator.is_main_process:
            append_record(self.path, {"step": step, **numbers, **details})


def append_record(path: Path, record: Mapping) -> None:
    """Adds a line of JSON."""
    line = to_json(record) + "\n"
    with writing(path.parent), path.open("a") as file:
        file.write(line)


def keep_records(path: Path, wanted: Callable[[dict], bool]) -> list[dict]:
    """Drops all lines of JSON that are not wanted, and half a line that a killed process left.

    Args:
        path: The file, which need not exist.
        wanted: Whether a record is kept.

    Returns:
        The records that are kept.

    Raises:
        ValueError: A line is no record.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        kept = [(line, json.loads(line)) for line in lines if line]
        kept = [(line, record) for line, record in kept if wanted(record)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or begin again in another folder") from error
    partial = path.with_suffix(".partial")
    with writing(path.parent):
        partial.write_text("".join(line + "\n" for line, _ in kept))
        partial.rename(path)
    return [record for _, record in kept]


@contextmanager
def stop_on_signal(accelerator: Accelerator) -> Iterator[None]:
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
