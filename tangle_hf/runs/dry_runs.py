"""`--dry_run`: what a search would cost, from two steps on synthetic data of the right shape."""

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.counts import num_params
from ..search import SearchArguments, search, train_single_paths
from .latency import without_latency


class Synthetic(torch.utils.data.Dataset):
    """Random examples, each a function of its index."""

    def __init__(self, count: int, example: Callable[[torch.Generator], dict[str, torch.Tensor]]):
        self.count, self.example = count, example

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.example(torch.Generator().manual_seed(index))


def dry_run(
    supernet: PreTrainedModel,
    settings: SearchArguments,
    accelerator: Accelerator,
    example: Callable[[torch.Generator], dict[str, torch.Tensor]],
    unit: str,
    sequence_length: int | None = None,
) -> None:
    """Two steps of one micro-batch per level; prints parameters, memory, time per step and projected hours.

    No latency is measured for it.

    Args:
        supernet: Of the search.
        settings: Of the search.
        accelerator: Of the search.
        example: Generator -> random training example.
        unit: What to count the data in, "tokens" or "images".
        sequence_length: Tokens of an example of text.
    """
    space, micro = supernet.space, settings.gradient_accumulation_steps
    examples = Synthetic(4 * settings.per_device_batch_size * accelerator.num_processes, example)
    marks = []
    with TemporaryDirectory() as folder:
        two_steps = replace(
            without_latency(settings), output_dir=folder, max_steps=2, gradient_accumulation_steps=1,
            arch_warmup_ratio=0.0, logging_steps=1,
            eval_steps=1, save_steps=2, warmup_steps=0, resume=False, report_to="none",
        )  # fmt: skip
        start = time.perf_counter()
        train, data = (search, (examples, examples))
        if settings.resolved_method.two_stage:
            train, data = train_single_paths, (examples,)
        train(
            supernet,
            *data,
            two_steps,
            accelerator,
            evaluate=lambda arch: marks.append(time.perf_counter()) or 0.0,
            sequence_length=sequence_length,
        )
        evaluation = seconds_to_evaluate(supernet, examples, settings, accelerator)
    if not accelerator.is_main_process:
        return
    per_step = (marks[1] - marks[0]) * micro
    if torch.cuda.is_available():
        memory, where = torch.cuda.max_memory_allocated(), "GPU"
    else:
        memory, where = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "process"
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
        {"what": f"peak memory of the {where}", "value": f"{memory / 2**30:.2f} GiB"},
        {"what": "first step (warm-up)", "value": f"{marks[0] - start:.2f} s"},
        {"what": f"time per step ({micro} micro-batches)", "value": f"{per_step:.2f} s"},
        {
            "what": f"projected for {settings.max_steps} steps",
            "value": f"{per_step * settings.max_steps / 3600:.2f} h",
        },
    ]
    if settings.resolved_method.two_stage:
        count = settings.population_size * settings.generations
        hours = evaluation * count / accelerator.num_processes / 3600
        rows.append({"what": f"projected for {count:,} candidates, at most", "value": f"{hours:.2f} h"})
    print(format_table(rows))
    if settings.max_latency_ms is not None:
        print("max_latency_ms is left out: a dry run measures no latency")


@torch.no_grad()
def seconds_to_evaluate(
    supernet: PreTrainedModel, examples: Synthetic, settings: SearchArguments, accelerator: Accelerator
) -> float:
    """Time of evaluating the largest net as a candidate, from one batch."""
    batch = next(iter(torch.utils.data.DataLoader(examples, settings.per_device_batch_size)))
    batch = {name: values.to(accelerator.device) for name, values in batch.items()}
    start = time.perf_counter()
    supernet.eval()(**batch, arch=supernet.space.largest).loss.item()
    return (time.perf_counter() - start) * settings.candidate_batches
