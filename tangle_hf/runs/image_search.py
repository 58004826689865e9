"""What the searches on images share: images that are ready for a search, and made-up ones for a dry run."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator
from datasets import Dataset, IterableDataset
from transformers import BaseImageProcessor

from ..data.images.classes import class_names
from ..data.images.loading import load_images, resolve_image_size
from ..data.images.settings import ImageArguments
from ..data.images.transforms import AugmentationArguments, image_processor
from ..models.image_classifiers import checkpoint_processor
from ..settings import with_default


@dataclass
class SmallAugmentationArguments(AugmentationArguments):
    """Augmentation, with a default for images as small as the embedded ones."""

    crop_min_scale: float = with_default(AugmentationArguments, "crop_min_scale", 0.8)


@dataclass
class ConvImageArguments(ImageArguments):
    """Which images, with a size that the digits are enlarged to."""

    image_size: int | None = with_default(ImageArguments, "image_size", 16)


def load_for_search(
    data: ImageArguments, dry_run: bool, accelerator: Accelerator
) -> tuple[dict[str, Dataset | IterableDataset], list[str], int]:
    """The images, the names of their classes, and their size.

    A dry run whose arguments say how many classes and which size reads no images.

    Raises:
        ValueError: As `load_images` and `resolve_image_size`.
    """
    if dry_run and data.classes and data.image_size:
        return {}, [str(number) for number in range(data.classes)], data.image_size
    with accelerator.main_process_first():
        splits = load_images(data)
    return splits, class_names(splits), resolve_image_size(data, splits)


def made_up_image(
    num_channels: int, image_size: int, classes: int
) -> Callable[[torch.Generator], dict[str, torch.Tensor]]:
    """Generator -> a random image and label, for a dry run."""

    def example(generator: torch.Generator) -> dict[str, torch.Tensor]:
        pixels = torch.randn(num_channels, image_size, image_size, generator=generator)
        return {"pixel_values": pixels, "labels": torch.randint(classes, (), generator=generator)}

    return example


def processor_for(start_from: str | None, data: ImageArguments, image_size: int) -> BaseImageProcessor:
    """The image processor of the checkpoint that a search starts from, or a new one."""
    if start_from is None:
        return image_processor(data, image_size)
    return checkpoint_processor(start_from, data, image_size)


def first_images(examples: torch.utils.data.Dataset, count: int = 8) -> dict[str, torch.Tensor]:
    """The first few examples as the arguments of one forward pass."""
    return {"pixel_values": torch.stack([row["pixel_values"] for row in islice(examples, count)])}
