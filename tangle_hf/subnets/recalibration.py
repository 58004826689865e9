"""Batch-norm recalibration: running statistics of one net, from training images, after its weights came out of a supernet.

The running statistics of a supernet are averages over the mixtures or subnets that it was trained with, and belong to none of
them (arXiv:1904.00420, section 3.3; arXiv:1908.09791; arXiv:2003.11142, section 3.5).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import torch
from datasets import IterableDataset
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model that keep running statistics."""
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in norms if norm.track_running_stats]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor], mixture: Mapping[str, Tensor] | None = None) -> None:
    """Replaces running means and variances by their averages over batches of training images; in place::

        mean = sum over batches of mean(batch) / batches,    var likewise

    Everything but the batch norms is as in evaluation, so that dropout draws no random numbers. A model without batch norms
    is left alone, and reads no batch.

    Args:
        model: A plain net, or a supernet with `mixture`.
        batches: Images (batch, channels, height, width), as large as in training; a few hundred are enough.
        mixture: `one_hot(space, arch)` gives a supernet the statistics of one of its nets.

    Raises:
        ValueError: There are no batches.
    """
    norms = batch_norms(model)
    if not norms:
        return
    modes, momenta = [module.training for module in model.modules()], [norm.momentum for norm in norms]
    device, chosen = next(model.parameters()).device, {} if mixture is None else {"mixture": mixture}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
        norm.train()
    count = 0
    for images in batches:
        model(images.to(device), **chosen)
        count += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    if not count:
        raise ValueError("there are no batches to recalibrate batch norms with; give at least one")


def still_batches(
    images: torch.utils.data.Dataset | IterableDataset, batch_size: int, count: int, seed: int
) -> Iterator[Tensor]:
    """Up to `count` batches of images, the same ones for a seed.

    Args:
        images: Training images as they are evaluated; a stream is read from its beginning.
        batch_size: Images of a batch, as in training.
        count: Batches.
        seed: Seed of the choice of images.
    """
    stream = isinstance(images, IterableDataset)
    order = {} if stream else {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
    loader = torch.utils.data.DataLoader(images, batch_size, drop_last=not stream, **order)
    return (batch["pixel_values"] for batch in islice(loader, count))
