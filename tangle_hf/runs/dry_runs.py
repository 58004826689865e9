"""`--dry_run`: what a search would cost, from a few steps on synthetic data of the right shape.

Steps are taken on growing micro-batches, as far as memory and patience go. What the whole micro-batch needs is extrapolated.
Where not even the smallest one fits, no step is taken, and what it needs is computed (`simulated_steps`).
"""

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.counts import num_params
from ..messages import silent
from ..search import SearchArguments, search, train_single_paths
from ..search.distillation import teacher_of
from ..search.limits import Limits
from ..search.loop import check_settings, warn_of_unread
from .latency import without_latency
from .planned_cost import planned_steps
from .simulated_steps import product_speed, simulated_memory, step_flops


FIRST_SIZE = 2  # examples of the first micro-batch; batch norms cannot take one
MOST_SECONDS = 60  # no larger micro-batch is begun that would end later
FIRST_SECONDS = 300  # no step is taken at all if even the first micro-batch would take longer
MOST_CPU_MEMORY = 5 * 2**30  # bytes; no larger micro-batch is begun that would need more
MOST_GPU_MEMORY = 0.9  # the same on a GPU, as a share of its memory


class Synthetic(torch.utils.data.Dataset):
    """Random examples, each a function of its index."""

    def __init__(self, count: int, example: Callable[[torch.Generator], dict[str, torch.Tensor]]):
        self.count, self.example = count, example

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.example(torch.Generator().manual_seed(index))


def made_up_text(vocab_size: int, block_size: int) -> Callable[[torch.Generator], dict[str, torch.Tensor]]:
    """Generator -> a random block of tokens."""

    def example(generator: torch.Generator) -> dict[str, torch.Tensor]:
        tokens = torch.randint(vocab_size, (block_size,), generator=generator)
        return {"input_ids": tokens, "labels": tokens}

    return example


def made_up_image(
    num_channels: int, image_size: int, classes: int
) -> Callable[[torch.Generator], dict[str, torch.Tensor]]:
    """Generator -> a random image and label."""

    def example(generator: torch.Generator) -> dict[str, torch.Tensor]:
        pixels = torch.randn(num_channels, image_size, image_size, generator=generator)
        return {"pixel_values": pixels, "labels": torch.randint(classes, (), generator=generator)}

    return example


class Measured(NamedTuple):
    """Micro-batches of `size` examples: seconds of the first step and of a later one, peak memory in bytes so far."""

    size: int
    first: float
    step: float
    memory: int


class Projected(NamedTuple):
    """A whole micro-batch: seconds of a step and of evaluating the largest net as a candidate, peak memory in bytes.

    `how` says in a word or two where they come from, `rows` what else there is to show, and `note` all of it in a sentence.
    """

    step: float
    evaluation: float
    memory: float
    how: str
    rows: list[dict[str, str]]
    note: str | None


def dry_run(
    supernet: PreTrainedModel,
    settings: SearchArguments,
    accelerator: Accelerator,
    example: Callable[[torch.Generator], dict[str, torch.Tensor]],
    unit: str,
    sequence_length: int | None = None,
) -> None:
    """Two steps of one micro-batch per level; prints parameters, memory, time per step and projected hours.

    No latency is measured for it, and no worker processes load its data.

    Args:
        supernet: What would be searched.
        settings: Those of the search.
        accelerator: Its device and processes.
        example: Generator -> random training example.
        unit: What to count the data in, "tokens" or "images".
        sequence_length: Tokens of an example of text.

    Raises:
        ValueError: The search could not be made, as `check_settings` says.
    """
    space, micro = supernet.space, settings.gradient_accumulation_steps
    known = without_latency(settings)
    warn_of_unread(settings)
    with silent():  # said of the settings as they were given
        check_settings(known, supernet, accelerator, Limits.of(known, supernet, sequence_length))
    too_much = beyond(supernet, settings, accelerator, sequence_length)
    if too_much is None:
        projected = by_steps(supernet, settings, accelerator, example, sequence_length)
    else:
        projected = by_arithmetic(supernet, settings, accelerator, example, sequence_length, too_much)
    if not accelerator.is_main_process:
        return
    note, per_step = f", {projected.how}" if projected.how else "", projected.step * micro
    where = "GPU" if torch.cuda.is_available() else "process"
    sizes = {"largest": space.largest, "smallest": space.smallest} if space.ordered else {}
    parameters = [
        {"what": f"parameters, {name}", "value": f"{num_params(space, arch, supernet.config):,}"}
        for name, arch in sizes.items()
    ] or [{"what": "parameters, supernet", "value": f"{supernet.num_parameters():,}"}]
    rows = [
        {"what": "architectures", "value": f"{space.size:,}"},
        *parameters,
        {
            "what": f"{unit} per step and level",
            "value": f"{settings.per_device_batch_size * micro * accelerator.num_processes * (sequence_length or 1):,}",
        },
        {"what": f"peak memory of the {where}{note}", "value": f"{projected.memory / 2**30:.2f} GiB"},
        *projected.rows,
        {"what": f"time per step ({micro} micro-batches){note}", "value": f"{per_step:.2f} s"},
        {
            "what": f"projected for {settings.max_steps} steps",
            "value": f"{per_step * settings.max_steps / 3600:.2f} h",
        },
    ]
    if settings.resolved_method.two_stage:
        count = settings.population_size * settings.generations
        hours = projected.evaluation * count / accelerator.num_processes / 3600
        rows.append({"what": f"projected for {count:,} candidates, at most", "value": f"{hours:.2f} h"})
    if settings.limits_latency:
        known = replace(known, finalists=0, random_finalists=0)
    rows += planned_steps(supernet, known, accelerator, sequence_length)
    print(format_table(rows))
    if projected.note is not None:
        print(projected.note)
    if settings.limits_latency:
        print("limits of latency are left out, and finalists within them: a dry run measures no latency")


def beyond(
    supernet: PreTrainedModel, settings: SearchArguments, accelerator: Accelerator, sequence_length: int | None
) -> str | None:
    """Why not even the smallest micro-batch is run on this device, in words; None: it is run."""
    kept = 2 if settings.optimizer == "sgd" and not settings.sgd_momentum else 3 if settings.optimizer == "sgd" else 4
    state = kept * sum(parameter.numel() * parameter.element_size() for parameter in supernet.parameters())
    if not broadcast_object_list([state <= most_memory(accelerator)])[0]:
        return (
            f"weights, gradients and what the optimizer keeps need {state / 2**30:.1f} GiB, more than the "
            f"{most_memory(accelerator) / 2**30:.1f} GiB that a dry run takes here"
        )
    flops, _ = step_flops(supernet, settings, sequence_length, min(FIRST_SIZE, settings.per_device_batch_size))
    seconds = flops / product_speed(accelerator.device)
    if not broadcast_object_list([seconds <= FIRST_SECONDS])[0]:
        return f"two examples would take {seconds:.0f} s at least, and a dry run takes {FIRST_SECONDS} s"
    return None


def by_steps(supernet, settings: SearchArguments, accelerator: Accelerator, example, sequence_length) -> Projected:
    """From micro-batches that are run."""
    whole = settings.per_device_batch_size
    runs = measured(whole, partial(two_steps, supernet, settings, accelerator, example, sequence_length), accelerator)
    size, examples = runs[-1].size, "images" if sequence_length is None else "examples"
    evaluation = seconds_to_evaluate(supernet, Synthetic(size, example), settings, accelerator) * whole / size
    first = {"what": f"first step (warm-up) of {runs[0].size} {examples}", "value": f"{runs[0].first:.2f} s"}
    how, note = "", None
    if size < whole:
        sizes, how = " and ".join(str(run.size) for run in runs[-2:]), "extrapolated"
        note = (
            f"measured on micro-batches of {sizes} examples, not {whole}, which would take more than {MOST_SECONDS} s or too "
            "much memory here; times are taken in proportion to the size, memory on the straight line through both"
        )
    step, memory = (extrapolated(runs, whole, what) for what in ("step", "memory"))
    return Projected(step, evaluation, memory, how, [first], note)


def by_arithmetic(
    supernet, settings: SearchArguments, accelerator: Accelerator, example, sequence_length, why: str
) -> Projected:
    """From the same operations on tensors without data, and their FLOPs."""
    whole, speed = settings.per_device_batch_size, product_speed(accelerator.device)
    flops, forward = step_flops(supernet, settings, sequence_length, whole)
    memory = simulated_memory(supernet, settings, example, whole) if accelerator.is_main_process else 0
    row = {
        "what": "FLOPs per step",
        "value": f"{flops * settings.gradient_accumulation_steps * accelerator.num_processes:.3g}",
    }
    precision = "bf16" if settings.mixed_precision == "bf16" else "float32"
    note = (
        f"no step was taken: {why}.\nMemory is that of the same operations in {precision} on tensors without data, in one "
        f"process that shards nothing;\ntimes are their FLOPs at the speed of a matrix product here in float32, "
        f"{speed / 1e9:,.0f} GFLOP/s, so at least that"
    )
    return Projected(flops / speed, forward * settings.candidate_batches / speed, memory, "computed", [row], note)


def most_memory(accelerator: Accelerator) -> float:
    """Bytes that a dry run takes of this device, at most."""
    if torch.cuda.is_available():
        return MOST_GPU_MEMORY * torch.cuda.get_device_properties(accelerator.device).total_memory
    return MOST_CPU_MEMORY


def measured(whole: int, run: Callable[[int], Measured], accelerator: Accelerator) -> list[Measured]:
    """Runs micro-batches of growing size, up to the whole one, as long as time and memory are there for the next.

    Args:
        whole: The size of the search.
        run: Size -> what it took.
        accelerator: All processes do what the main one decides.
    """
    limit = most_memory(accelerator)
    begin, runs, size = time.perf_counter(), [], min(FIRST_SIZE, whole)
    while True:
        started = time.perf_counter()
        runs.append(run(size))
        if size == whole:
            return runs
        now, size = time.perf_counter(), min(2 * size, whole)
        fits = len(runs) == 1 or extrapolated(runs, size, "memory") < limit
        enough = now - begin + size / runs[-1].size * (now - started) < MOST_SECONDS
        if len(runs) > 1 or runs[0].memory > limit:  # two sizes make a straight line
            if not broadcast_object_list([fits and enough])[0]:
                return runs


def extrapolated(runs: list[Measured], size: int, what: str) -> float:
    """Seconds of a micro-batch, in proportion to the last run, or bytes, on the straight line through the last two.

    The difference between the times of two short runs is mostly noise on a busy machine, so that seconds are not extrapolated
    on a line but in proportion, which is rather too much than too little.
    """
    last = getattr(runs[-1], what)
    if what == "step" or len(runs) == 1:
        return last * size / runs[-1].size
    slope = (last - getattr(runs[-2], what)) / (runs[-1].size - runs[-2].size)
    return last + max(0.0, slope) * (size - runs[-1].size)


def two_steps(supernet, settings: SearchArguments, accelerator, example, sequence_length, size: int) -> Measured:
    """Two steps of one micro-batch of `size` examples per level."""
    examples = Synthetic(4 * size * accelerator.num_processes, example)
    marks = []
    with TemporaryDirectory() as folder:
        short = replace(
            without_latency(settings), output_dir=folder, max_steps=2, per_device_batch_size=size,
            gradient_accumulation_steps=1, dataloader_num_workers=0, arch_warmup_ratio=0.0, logging_steps=1,
            eval_steps=1, save_steps=2, warmup_steps=0, resume=False, report_to="none", early_stop_evals=None,
        )  # fmt: skip
        train, data = (search, (examples, examples))
        if settings.resolved_method.two_stage:
            train, data = train_single_paths, (examples,)
        start = time.perf_counter()
        with silent():  # of two steps there is nothing to say
            train(
                supernet,
                *data,
                short,
                accelerator,
                evaluate=lambda arch: marks.append(time.perf_counter()) or 0.0,
                limits=Limits.of(short, supernet, sequence_length),
                teacher=teacher_of(supernet, short, accelerator.device),
            )
    accelerator.free_memory()
    supernet.zero_grad(set_to_none=True)
    second = len(marks) // 2  # a front evaluates a net for each of its points after every step
    return Measured(size, marks[0] - start, marks[second] - marks[second - 1], peak_memory())


def peak_memory() -> int:
    """Of the GPU, or of this process, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def seconds_to_evaluate(
    supernet: PreTrainedModel, examples: Synthetic, settings: SearchArguments, accelerator: Accelerator
) -> float:
    """Time of evaluating the largest net as a candidate, from one batch."""
    batch = next(iter(torch.utils.data.DataLoader(examples, len(examples))))
    batch = {name: values.to(accelerator.device) for name, values in batch.items()}
    start = time.perf_counter()
    supernet.eval()(**batch, arch=supernet.space.largest).loss.item()
    return (time.perf_counter() - start) * settings.candidate_batches
