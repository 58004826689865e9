"""What a step needs where no step can be taken: the same operations on tensors without data.

Memory is the sum of all storages that live at once, as operations make and drop them, without what an allocator keeps.
Time is arithmetic over the speed of one matrix product, of which a step never gets all: it is at least that.
"""

import time
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from ..arch_parameters import uniform_mixture
from ..cost.tables import of_largest
from ..search import SearchArguments
from ..search.loop import weight_optimizer
from ..search.search_cost import FORWARD_PASSES, SearchCost, flops_table


SIDE, TRIALS = 2048, 3  # of the matrices whose product is timed


def simulated_memory(
    supernet: PreTrainedModel, settings: SearchArguments, example: Callable[[torch.Generator], dict], size: int
) -> int:
    """Peak bytes of a weight step on one micro-batch, in one process; of a search's steps it needs most.

    Args:
        supernet: What would be searched; another one is made of its configuration, without data.
        settings: Optimizer, precision and activation checkpointing of the search.
        example: Generator -> random training example.
        size: Examples of the micro-batch.
    """
    rows = [example(torch.Generator().manual_seed(index)) for index in range(size)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    two_stage, half = settings.resolved_method.two_stage, settings.mixed_precision == "bf16"
    chosen = {"arch": supernet.space.largest} if two_stage else {"mixture": uniform_mixture(supernet.space)}
    with torch.device("meta"):
        copy = type(supernet)(supernet.config).train()
    with FakeTensorMode(allow_non_fake_inputs=True), _Living() as living:
        copy.to_empty(device="cpu").tie_weights()
        if settings.activation_checkpointing:
            copy.activation_checkpointing_enable()
        optimizer = weight_optimizer(copy, settings)
        for _ in range(2):  # the first makes the optimizer's moments, beside which the second runs
            for _ in range(min(2, settings.gradient_accumulation_steps)):  # later micro-batches meet the gradient
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    loss = copy(**batch, **chosen).loss
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return living.peak


class _Living(TorchDispatchMode):
    """Counts the bytes of storages from the operation that makes them until nothing refers to them."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self._sizes = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":  # skeletons of paths have no data either
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def step_flops(
    supernet: PreTrainedModel, settings: SearchArguments, sequence_length: int | None, size: int
) -> tuple[float, float]:
    """FLOPs of a search step on `size` examples per level, and of the largest net's forward pass over them.

    Args:
        supernet: What would be searched.
        settings: Its method.
        sequence_length: Tokens of an example of text.
        size: Examples.
    """
    cost = SearchCost(supernet, size, sequence_length)
    if settings.resolved_method.two_stage:
        cost.add_weight_step(supernet.space.largest)
    else:
        cost.add_weight_step()
        cost.add_arch_step(settings.unrolled)
    forward = size * of_largest(flops_table(supernet, sequence_length))
    return cost.spent * FORWARD_PASSES * forward, forward


def product_speed(device: torch.device) -> float:
    """FLOPs per second of a product of two square matrices in float32, the best of a few trials."""
    matrix, seconds = torch.ones(SIDE, SIDE, device=device), []
    for _ in range(TRIALS + 1):  # the first one warms up
        start = time.perf_counter()
        (matrix @ matrix).sum().item()
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds[1:])
