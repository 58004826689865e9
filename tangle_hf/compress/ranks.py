"""Which layers a shallower net should keep: one after the other is removed, always the one that is missed least.

The losses are taken again after every removal, because layers stand in for each other: two of which either could go alone may
not go together. How much a layer turns the residual stream (block influence, arXiv:2403.03853, section 3) costs one pass and
does not see that; it also misses layers that turn it little and matter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.std import tqdm
from transformers import PreTrainedModel

from ..messages import progress_bar, with_progress
from .batches import calibration_loss, check_labelled, evaluating, on_device


class Ranking(NamedTuple):
    """Ranks of layers, and what their removal costs.

    ranks: the rank of every layer in order of position, as `layer_ranks` of a supernet's config.
    losses: loss on the calibration data, in nats, without the k layers of the highest ranks; k = 0 is the whole net.
    """

    ranks: list[int]
    losses: list[float]


@torch.no_grad()
def rank_by_removal(
    supernet: PreTrainedModel,
    batches: Sequence[Mapping[str, Tensor]],
    fewest: int | None = None,
    progress: bool = True,
) -> Ranking:
    """Ranks layers by greedy removal: the layer without which the loss is lowest goes first and gets the highest rank.

    Layers that stay have the lowest ranks, in order of position. n removals of L layers cost about `n (L - n / 2) / 2` passes.

    Args:
        supernet: An `Elastic*` model of a transformer family; its weights are those of the largest net.
        batches: Arguments of forward passes with `labels`, as `calibration_batches` gives them.
        fewest: Layers of the shallowest net that is wanted; the smallest depth of the space if None.
        progress: Show a progress bar.

    Raises:
        ValueError: The family has no layers to remove, there is no batch or one without labels, or `fewest` is out of range.
    """
    layers = _layers(supernet)
    check_labelled(batches)
    fewest = supernet.space.depths[0] if fewest is None else fewest
    if not 1 <= fewest <= len(layers):
        raise ValueError(f"fewest={fewest} must be from 1 to {len(layers)}, the number of layers")
    kept, ranks, losses = list(range(len(layers))), [0] * len(layers), []
    steps = sum(range(fewest + 1, len(layers) + 1)) * len(batches)
    with evaluating(supernet), progress_bar(steps, "ranks of layers", show=progress) as bar:
        while len(kept) > fewest:
            whole, without = _losses_of_removal(supernet, layers, kept, batches, bar)
            losses.append(whole)
            least = min(kept, key=without.__getitem__)
            kept.remove(least)
            ranks[least] = len(kept)
    losses.append(without[least] if losses else calibration_loss(supernet, batches))
    for rank, position in enumerate(kept):
        ranks[position] = rank
    return Ranking(ranks, losses)


@torch.no_grad()
def rank_by_influence(
    supernet: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]], progress: bool = True
) -> list[int]:
    """Ranks layers by block influence, `1 - cos(x, layer(x))`, averaged over tokens; the lowest gets the highest rank.

    The ranks are those of `layer_ranks`. One pass, for where `rank_by_removal` is too dear.

    Args:
        supernet: An `Elastic*` model of a transformer family.
        batches: Arguments of forward passes.
        progress: Show a progress bar.

    Raises:
        ValueError: The family has no layers, or there is no batch.
    """
    layers = _layers(supernet)
    if not batches:
        raise ValueError("there is nothing to rank layers on; give at least one batch")
    influence = torch.zeros(len(layers), dtype=torch.float64)
    with evaluating(supernet):
        for batch in with_progress(batches, "ranks of layers", progress):
            inputs = on_device(supernet, batch, labels=False)
            with _recorded(layers) as streams:
                supernet.base_model(**inputs)
            for position, (before, after) in enumerate(streams):
                influence[position] += (1 - F.cosine_similarity(before.double(), after.double(), dim=-1)).sum().cpu()
    ranks = [0] * len(layers)
    for rank, position in enumerate(influence.argsort(descending=True, stable=True).tolist()):
        ranks[position] = rank
    return ranks


def _layers(supernet: PreTrainedModel) -> nn.ModuleList:
    if supernet.layer_list is None:
        raise ValueError(f"{type(supernet).__name__} is no transformer; only their units and layers can be ordered")
    return supernet.get_submodule(supernet.layer_list)


def _losses_of_removal(
    supernet: PreTrainedModel,
    layers: nn.ModuleList,
    kept: list[int],
    batches: Sequence[Mapping[str, Tensor]],
    bar: tqdm,
) -> tuple[float, dict[int, float]]:
    """The loss of the net with the layers that are kept, and without each one of them.

    What stands in front of a layer is the same with and without it, and is computed once.
    """
    whole, without, count = 0.0, dict.fromkeys(kept, 0.0), 0
    gone = [layer for position, layer in enumerate(layers) if position not in kept]
    for batch in batches:
        inputs, size = on_device(supernet, batch), len(batch["labels"])
        with _replaced(gone, _skip):
            with _recorded(layers) as streams:
                whole += supernet(**inputs).loss.item() * size
            for position in kept:
                with _replaced(layers[:position], _skip), _replaced([layers[position]], _give(streams[position][0])):
                    without[position] += supernet(**inputs).loss.item() * size
                bar.update()
        count += size
    return whole / count, {position: loss / count for position, loss in without.items()}


def _skip(hidden: Tensor, *_, **__) -> Tensor:
    return hidden


def _give(stream: Tensor) -> Callable[..., Tensor]:
    return lambda *_, **__: stream


@contextmanager
def _replaced(layers: Sequence[nn.Module], forward: Callable[..., Tensor]) -> Iterator[None]:
    """Inside, these layers run another function of the residual stream."""
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


@contextmanager
def _recorded(layers: Sequence[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The residual stream in front of and behind every layer, in order of position, of one pass inside."""
    streams: list[tuple[Tensor, Tensor]] = []
    with ExitStack() as hooks:
        for layer in layers:
            handle = layer.register_forward_hook(lambda _, inputs, output: streams.append((inputs[0], output)))
            hooks.callback(handle.remove)
        yield streams
