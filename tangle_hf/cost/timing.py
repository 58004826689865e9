"""Times nets: what their latency holds for, nets built to be timed, and forward passes in turns.

Machines are noisy. Nets are timed in turns, in a random order, and a net's time is a median over rounds after each round's
own speed was taken out:

    log seconds[round, net] = speed[round] + log time[net] + noise
"""

import logging
import os
import platform
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from ..messages import progress_bar
from ..space import Architecture
from ..subnets.extraction import natural_form
from .counts import flops, num_params


ROUNDS = 10
CALLS = 3  # timed in a row, of which the fastest counts
LONG = 0.1  # seconds after which no further call is timed
NOISY = 0.1  # relative distance of the quartiles of a net's times that is warned of
ALIGNMENT = 64  # elements

logger = logging.getLogger(__name__)


def conditions(
    supernet: PreTrainedModel,
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """What a measured latency holds for.

    Args:
        supernet: An `Elastic*` model.
        batch_size: Sequences, or images, of a forward pass.
        sequence_length: Tokens of a sequence; an image model has its own if None.
        device: Where the nets run; the supernet's if None.

    Returns:
        JSON types. "params" and "flops" of the smallest and the largest net stand for all sizes that the space does not
        name.
    """
    space, config, device = supernet.space, supernet.config, device or supernet.device
    ends = (space.smallest, space.largest)
    work = [flops(space, arch, config, sequence_length=sequence_length) for arch in ends]
    return {
        "device": device.type,
        "device_name": _device_name(device),
        "dtype": str(supernet.dtype).removeprefix("torch."),
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "threads": torch.get_num_threads(),
        "attention": config._attn_implementation,
        "params": [num_params(space, arch, config) for arch in ends],
        "flops": work,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def build_nets(
    supernet: PreTrainedModel, archs: Sequence[Architecture], form: str | None = None
) -> list[PreTrainedModel]:
    """Architectures as exported models with random weights, which all of them share to save memory.

    Args:
        supernet: An `Elastic*` model.
        archs: What to build.
        form: "stock", "padded" or "compact"; None: stock where an architecture has that form, else compact.
    """
    space, config = supernet.space, supernet.config
    size = num_params(space, space.largest, config) + ALIGNMENT * len(config.axes)
    generator = torch.Generator().manual_seed(0)  # of its own: measuring must not change what a search draws
    weights = (0.02 * torch.randn(size, generator=generator)).to(supernet.device, supernet.dtype)
    nets = []
    for arch in archs:
        subnet_class, subnet_config = supernet.subnet_skeleton(config, arch, form or natural_form(supernet, arch))
        with no_init_weights(), torch.device(supernet.device):
            net = subnet_class(subnet_config).to(supernet.dtype).eval()
        net.tie_weights()
        net.set_attn_implementation(config._attn_implementation)
        used = 0
        for parameter in net.parameters():
            parameter.data = weights[used : used + parameter.numel()].view(parameter.shape)
            used += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        nets.append(net)
    return nets


@torch.inference_mode()
def measure(
    nets: Sequence[nn.Module], inputs: Mapping[str, Tensor], *, rounds: int = ROUNDS, progress: bool = True
) -> list[float]:
    """Milliseconds of a forward pass of each net, timed in turns.

    Args:
        nets: Models in evaluation mode.
        inputs: Arguments of a forward pass.
        rounds: How often each net gets its turn.
        progress: Show a progress bar.

    Returns:
        For each net the median over rounds, after each round's own speed (its median over nets) was taken out. Warns where
        the times of a net are far apart.

    Raises:
        ValueError: `rounds` is 0.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")
    rng = random.Random(0)
    seconds = torch.empty(rounds, len(nets), dtype=torch.float64)
    with progress_bar(seconds.numel(), "latency", show=progress) as bar:
        for turn in range(rounds):
            for number in rng.sample(range(len(nets)), len(nets)):
                seconds[turn, number] = forward_seconds(nets[number], inputs)
                bar.update()
    logs = seconds.log()
    relative = (logs - logs.quantile(0.5, dim=1, keepdim=True)).quantile(0.5, dim=0)
    speed = (logs - relative).quantile(0.5, dim=1)  # again, with what each net takes known: nearer to it with few nets
    noise = logs - relative - speed[:, None]
    spread = (noise.quantile(0.75, dim=0) - noise.quantile(0.25, dim=0)).quantile(0.5).item()
    if spread > NOISY:
        logger.warning(
            f"the machine is busy: half of the times of a net are {spread:.0%} or more apart, and latencies as uncertain; "
            "measure again when it is quiet"
        )
    return (1000 * (relative + speed.quantile(0.5)).exp()).tolist()


def forward_seconds(net: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """The fastest of a few forward passes in a row, after one that warms up."""
    device = next(iter(inputs.values())).device
    times: list[float] = []
    for _ in range(1 + CALLS):
        start = time.perf_counter()
        net(**inputs)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append(time.perf_counter() - start)
        if len(times) > 1 and sum(times[1:]) > LONG:
            break
    return min(times[1:])


def _device_name(device: torch.device) -> str:
    """The name of a GPU, or the processor and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
