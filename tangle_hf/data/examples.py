"""Examples of one kind, text or images: for training, validation and test, and how a model is scored on them.

Searches, fine-tuning, comparisons and the measurement of precision all take them. A new kind of data is a class like
`TextExamples` or `ImageExamples`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..space import Architecture


Mixture = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Examples(ABC):
    """What a training or a search has to know of its data.

    Args:
        processor: Tokenizer or image processor, which is saved with the model.
        validation: Validation examples.
        test: Test examples.
        description: What the data are, in a few words for the model card.
        sequence_length: Tokens of an example of text.
    """

    processor: object
    validation: torch.utils.data.Dataset
    test: torch.utils.data.Dataset
    description: str
    sequence_length: int | None = None

    pipeline: ClassVar[str]  # name of the transformers pipeline that runs the model
    example: ClassVar[str]  # what one is called
    unit: ClassVar[str]  # what FLOPs are counted for
    metric: ClassVar[str]  # the score that people read
    input_name: ClassVar[str]  # argument of the model
    sample_size: ClassVar[int]  # examples on which an export is compared with the supernet

    @abstractmethod
    def training(self, seed: int) -> torch.utils.data.Dataset:
        """Training examples; a seed decides on their augmentation, where there is any."""

    @abstractmethod
    def split(self, train_portion: float, seed: int, batch: int = 1) -> tuple[torch.utils.data.Dataset, ...]:
        """Training examples for the weights and for the architecture, without overlap.

        Args:
            train_portion: Share of the weights, in (0, 1).
            seed: Seed of the split.
            batch: Examples that each part must have at least.

        Raises:
            ValueError: One part would be too small.
        """

    @abstractmethod
    def score(
        self, model: PreTrainedModel, examples, batch_size: int, most: int | None = None, **chosen
    ) -> Mapping[str, float]:
        """Scores of a model, "loss" in nats among them.

        Args:
            model: A plain net, or a supernet with `mixture=` or `arch=` to choose a subnet.
            examples: `validation`, `test` or a part that `split` gave.
            batch_size: Examples of a batch; scores do not depend on it.
            most: Batches that are looked at; None is all.
        """

    @abstractmethod
    def columns(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Test scores as columns of a table."""

    def inputs(self, examples, count: int, batch_size: int) -> list[dict[str, Tensor]]:
        """The first batches of some examples, as arguments of forward passes."""
        loader = torch.utils.data.DataLoader(examples, batch_size)
        return [{self.input_name: batch[self.input_name]} for batch in islice(loader, count)]

    def settle(
        self, model: PreTrainedModel, batch_size: int, most: int | None = None, mixture: Mixture | None = None
    ) -> None:
        """Gives a net with batch norms statistics of its own; leaves other nets alone.

        Args:
            model: A plain net, or a supernet with `mixture`.
            batch_size: Training examples of a batch.
            most: Batches at most.
            mixture: The mixture of a supernet whose statistics are wanted.
        """
        return None

    def known(self, arch: Architecture) -> dict[str, float]:
        """What a table of trained nets says of an architecture, where there is one."""
        return {}

    def notation(self, arch: Architecture) -> str | None:
        """How the field writes an architecture, where it has a way of its own."""
        return None
