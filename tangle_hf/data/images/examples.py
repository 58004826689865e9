"""Labelled images as examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel

from ...evaluation import accuracy
from ..examples import Examples
from .augmentation_settings import AugmentationArguments
from .classes import class_names
from .settings import ImageArguments, describe
from .splits import split_for_search
from .transforms import evaluation_images, training_images


@dataclass(frozen=True, eq=False)
class ImageExamples(Examples):
    """Images and their classes; `processor` is the image processor.

    The weights train on augmented images. The architecture parameters, and every score, see images as the processor makes
    them.

    Args:
        train: Training images, neither augmented nor processed.
        image_size: Height and width that the processor gives, in pixels.
        settings: Which images they are.
        augmentation: How those to train on are augmented.
    """

    train: Dataset | IterableDataset | None = None
    image_size: int = 0
    settings: ImageArguments | None = None
    augmentation: AugmentationArguments | None = None

    pipeline, example, unit, metric, input_name = "image-classification", "image", "image", "accuracy", "pixel_values"
    sample_size = 8

    @property
    def names(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        return class_names({"train": self.train})

    def training(self, seed: int) -> torch.utils.data.Dataset:
        return self._augmented(self.train, seed)

    def split(self, train_portion: float, seed: int, batch: int = 1) -> tuple[torch.utils.data.Dataset, ...]:
        weights, architecture = self.cut(train_portion, seed, batch)
        return self._augmented(weights, seed), evaluation_images(architecture, self.settings, self.processor)

    def cut(self, train_portion: float, seed: int, batch: int = 1) -> tuple[Dataset | IterableDataset, ...]:
        """The two parts of `split` as they were read."""
        return split_for_search(self.train, train_portion, seed, batch)

    def score(
        self, model: PreTrainedModel, examples, batch_size: int, most: int | None = None, **chosen
    ) -> Mapping[str, float]:
        return accuracy(model, examples, batch_size, most, **chosen)

    def columns(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"test loss": scores["loss"], "accuracy in %": 100 * scores["accuracy"]}

    def _augmented(self, images: Dataset | IterableDataset, seed: int) -> torch.utils.data.Dataset:
        return training_images(images, self.settings, self.augmentation, self.processor, self.image_size, seed)


def image_examples(
    splits: Mapping[str, Dataset | IterableDataset],
    processor: object,
    image_size: int,
    settings: ImageArguments,
    augmentation: AugmentationArguments,
) -> ImageExamples:
    """Examples of the images that `load_images` gave."""
    held_out = (evaluation_images(splits[name], settings, processor) for name in ("validation", "test"))
    own = {"train": splits["train"], "image_size": image_size, "settings": settings, "augmentation": augmentation}
    return ImageExamples(processor, *held_out, describe(settings), **own)
