"""What fine-tuning needs to know of an image classifier; it alone needs the extra `vision`."""

import torch
from transformers import AutoModelForImageClassification, PreTrainedModel

from .. import evaluation
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.classes import class_names
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments, describe
from ..data.images.soft_targets import use_soft_targets
from ..data.images.transforms import evaluation_images, training_images
from ..models.checkpoint_errors import reading_checkpoint
from ..models.image_classifiers import (
    check_patches,
    checkpoint_processor,
    from_scratch,
    names_of,
    set_classes,
    set_image_size,
)
from .tasks import AUTO_CLASSES, Task, config_of


def vision_task(
    checkpoint: str,
    remote_code: bool,
    modes: list[str],
    data: ImageArguments,
    augmentation: AugmentationArguments,
) -> Task:
    """An image classifier on images.

    Raises:
        ValueError: As the data; the checkpoint is no image classifier, has another number of channels, or is to be
            evaluated as it is on other classes than its own.
    """
    config = config_of(checkpoint, remote_code, AUTO_CLASSES["vision"])
    if config.num_channels != data.num_channels:
        raise ValueError(
            f"{checkpoint} takes {config.num_channels} channels, num_channels={data.num_channels}; use --num_channels "
            f"{config.num_channels}"
        )
    splits = load_images(data)
    names, size = class_names(splits), data.image_size or config.image_size
    if "inherit" in modes and names_of(config) != names:
        raise ValueError(
            f"{checkpoint} has classes {names_of(config)[:10]}, the data {names[:10]} ({config.num_labels} and "
            f"{len(names)} in all): as it was cut out it can only tell its own classes apart, in their own order; leave "
            "inherit out of --mode"
        )
    check_patches(size, getattr(config, "patch_size", 1))  # convolutional nets have no patches
    processor = checkpoint_processor(checkpoint, data, size)
    held_out = {name: evaluation_images(splits[name], data, processor) for name in ("validation", "test")}

    # Precision is a matter of the training, not of the type that a checkpoint was saved in.
    how = {"trust_remote_code": remote_code, "dtype": torch.float32}

    def build(mode: str) -> PreTrainedModel:
        if mode == "retrain":
            model = from_scratch(config, names, size, remote_code)
        else:
            with reading_checkpoint("checkpoint", checkpoint):
                model = AutoModelForImageClassification.from_pretrained(checkpoint, **how)
            set_image_size(model, size)
            set_classes(model, names)
        use_soft_targets(model)
        return model

    return Task(
        "image-classification",
        describe(data),
        "accuracy",
        processor,
        lambda seed: training_images(splits["train"], data, augmentation, processor, size, seed),
        build,
        lambda model, split, batch_size: evaluation.accuracy(model, held_out[split], batch_size),
    )
