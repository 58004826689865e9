"""The data of a comparison of image classifiers."""

from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.examples import ImageExamples, image_examples
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..models.image_classifiers import checkpoint_processor
from ..runs.conv_examples import conv_examples
from ..runs.folder import from_settings
from ..subnets.recalibration import batch_norms
from .runs import Run, supernet_of


def load_images_of(run: Run) -> ImageExamples:
    """The images of a run, and training images for the statistics of batch norms if its nets have these.

    Raises:
        ValueError: The images cannot be read.
    """
    data, augmentation = (from_settings(kind, run.settings) for kind in (ImageArguments, AugmentationArguments))
    supernet, settings = supernet_of(run.folder), run.settings
    processor = checkpoint_processor(str(run.folder / "supernet"), data, supernet.config.image_size)
    images = image_examples(load_images(data), processor, supernet.config.image_size, data, augmentation)
    if not batch_norms(supernet):
        return images
    return conv_examples(images, settings["train_portion"], settings["seed"], settings["recalibration_batches"])
