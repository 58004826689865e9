"""What a search needs to know of its data, and what it has found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..search.gradient.arch_front import ArchFront
from ..search.gradient.front import FrontPoint
from ..space import Architecture


@dataclass(frozen=True)
class SearchTask:
    """What a search needs to know of its data.

    Args:
        pipeline: Name of the transformers pipeline that runs the result.
        processor: Tokenizer or image processor, to save along.
        train_data: Examples for the weights.
        arch_data: Examples for the architecture: steps of its parameters, losses of candidates.
        validation_data: Examples to follow the search by.
        score: Examples, number of batches, and `arch=` or `mixture=` -> scores with the supernet's current weights, "loss"
            among them.
        test: Model, and `mixture=` or `arch=` for a supernet -> scores on test data, as columns of the table.
        compute: Architecture -> its FLOPs, as columns of the table.
        sample: Inputs of one forward pass, to compare an export with the supernet.
        example: What an example is called.
        data: What the data are, in a few words for the model card.
        sequence_length: Tokens of an example of text.
        settle: Called with what was found before anything is saved: gives the supernet's batch norms its statistics.
        notation: Architecture -> how the field writes it, where it has a way of its own.
    """

    pipeline: str
    processor: object
    train_data: torch.utils.data.Dataset
    arch_data: torch.utils.data.Dataset
    validation_data: torch.utils.data.Dataset
    score: Callable[..., Mapping[str, float]]
    test: Callable[..., dict[str, float]]
    compute: Callable[[Architecture], dict[str, int]]
    sample: Mapping[str, torch.Tensor]
    example: str
    data: str
    sequence_length: int | None = None
    settle: Callable[[Architecture], None] = lambda arch: None
    notation: Callable[[Architecture], str] | None = None


@dataclass(frozen=True)
class Found:
    """What a search has found, by whatever method.

    Args:
        arch: The architecture.
        cost: What the search cost, in plain-model steps.
        results: More for `results.json`.
    """

    arch: Architecture
    cost: float
    results: dict


@dataclass(frozen=True)
class FoundFront:
    """What a search for a front has found.

    Args:
        front: Its architecture parameters.
        points: Its points.
        worst: The loss that the smallest net inherits.
        cost: What the search cost, in plain-model steps.
    """

    front: ArchFront
    points: list[FrontPoint]
    worst: float
    cost: float
