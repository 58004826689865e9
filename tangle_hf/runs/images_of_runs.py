"""The images of a finished search of image classifiers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.examples import ImageExamples, image_examples
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..models.image_classifiers import checkpoint_processor
from ..subnets.recalibration import batch_norms
from .conv_examples import conv_examples
from .folder import from_settings


def load_images_of(folder: Path, settings: Mapping[str, Any], supernet: PreTrainedModel) -> ImageExamples:
    """The images of a run, and training images for the statistics of batch norms if its nets have these.

    Args:
        folder: Of the run.
        settings: Of the run, name -> value.
        supernet: Of the run.

    Raises:
        ValueError: The images cannot be read.
    """
    data, augmentation = (from_settings(kind, settings) for kind in (ImageArguments, AugmentationArguments))
    processor = checkpoint_processor(str(folder / "supernet"), data, supernet.config.image_size)
    images = image_examples(load_images(data), processor, supernet.config.image_size, data, augmentation)
    if not batch_norms(supernet):
        return images
    return conv_examples(images, settings["train_portion"], settings["seed"], settings["recalibration_batches"])
