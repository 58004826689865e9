"""Calibration data: batches, and the loss on them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel


def calibration_batches(
    examples, most: int = 64, batch_size: int = 8, seed: int | None = None
) -> list[dict[str, Tensor]]:
    """Some examples of a data set as batches of arguments of a forward pass.

    Args:
        examples: Blocks of tokens or images, as `tangle_hf.data` gives them.
        most: How many to take.
        batch_size: Examples of a batch.
        seed: Of a random choice, which data need that lie class by class; fewer examples are some of more of the same seed.
            None: the first ones.

    Raises:
        ValueError: There is none, for one because the text is shorter than a block.
    """
    if most < 1 or batch_size < 1:
        raise ValueError(f"calibration needs examples and batches of at least 1, got {most} and {batch_size}")
    drawn = {}
    if seed is not None:
        drawn = {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
    batches = list(islice(DataLoader(examples, batch_size, **drawn), -(-most // batch_size)))
    if not batches:
        raise ValueError("there is no example to calibrate on; give more text, or shorter blocks")
    batches[-1] = {name: values[: most - batch_size * (len(batches) - 1)] for name, values in batches[-1].items()}
    return batches


@torch.no_grad()
def calibration_loss(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]], **chosen) -> float:
    """Mean loss of batches, in nats, in the mode that the model is in.

    Args:
        model: Any model that takes them.
        batches: Arguments of forward passes with `labels`.
        **chosen: Of a supernet `arch=`, to run one of its nets.
    """
    total = sum(model(**on_device(model, batch), **chosen).loss.item() * len(batch["labels"]) for batch in batches)
    return total / sum(len(batch["labels"]) for batch in batches)


def check_labelled(batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Checks that there is a loss to go by.

    Raises:
        ValueError: There is no batch, or one without labels.
    """
    if not batches or any("labels" not in batch for batch in batches):
        raise ValueError("this goes by the loss on calibration data; give at least one batch, and labels in each")


def on_device(model: PreTrainedModel, batch: Mapping[str, Tensor], labels: bool = True) -> dict[str, Tensor]:
    """A batch on the device of a model, without its labels where they are not wanted."""
    return {name: values.to(model.device) for name, values in batch.items() if labels or name != "labels"}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the mode of before behind it."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
