"""What the searches on images share: their defaults, and images that are ready for a search."""

from dataclasses import dataclass

from accelerate import Accelerator

from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.classes import class_names
from ..data.images.examples import ImageExamples, image_examples
from ..data.images.loading import load_images, resolve_image_size
from ..data.images.settings import ImageArguments
from ..data.images.transforms import image_processor
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
    data: ImageArguments, augmentation: AugmentationArguments, accelerator: Accelerator, start_from: str | None
) -> ImageExamples:
    """Reads the images; their processor is that of the checkpoint that the search starts from, or a new one.

    Raises:
        ValueError: The images cannot be read, or have no size in common and none is given.
    """
    with accelerator.main_process_first():
        splits = load_images(data)
    size = resolve_image_size(data, splits)
    if start_from is None:
        processor = image_processor(data, size)
    else:
        processor = checkpoint_processor(start_from, data, size)
    return image_examples(splits, processor, size, data, augmentation)


def classes_and_size(data: ImageArguments, accelerator: Accelerator) -> tuple[list[str], int]:
    """The names of the classes and the image size, for a dry run; no images are read where both are given.

    Raises:
        ValueError: The images cannot be read, or have no size in common and none is given.
    """
    if data.classes and data.image_size:
        return [str(number) for number in range(data.classes)], data.image_size
    with accelerator.main_process_first():
        splits = load_images(data)
    return class_names(splits), resolve_image_size(data, splits)
