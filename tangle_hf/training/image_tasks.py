"""What fine-tuning needs to know of an image classifier; it alone needs the extra `vision`."""

import torch
from transformers import AutoModelForImageClassification, PreTrainedModel

from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.classes import class_names
from ..data.images.examples import image_examples
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..data.images.soft_targets import use_soft_targets
from ..models.checkpoint_errors import load_whole, reading_checkpoint
from ..models.image_classifiers import (
    check_patches,
    check_teaches,
    checkpoint_processor,
    from_scratch,
    image_size_of,
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
        ValueError: The images cannot be read; the checkpoint is no image classifier, has another number of channels or says no
            size, or is to be evaluated as it is on other classes than its own.
    """
    config = config_of(checkpoint, remote_code, AUTO_CLASSES["vision"])
    if getattr(config, "num_channels", data.num_channels) != data.num_channels:
        raise ValueError(
            f"{checkpoint} takes {config.num_channels} channels, num_channels={data.num_channels}; use --num_channels "
            f"{config.num_channels}"
        )
    splits = load_images(data)
    names, size = class_names(splits), data.image_size or image_size_of(config)
    if size is None:
        raise ValueError(f"{checkpoint} takes images of any size; say by --image_size what they are resized to")
    if "inherit" in modes and names_of(config) != names:
        raise ValueError(
            f"{checkpoint} has classes {names_of(config)[:10]}, the data {names[:10]} ({config.num_labels} and "
            f"{len(names)} in all): as it was cut out it can only tell its own classes apart, in their own order; leave "
            "inherit out of --mode"
        )
    check_patches(size, getattr(config, "patch_size", 1))  # convolutional nets have no patches
    processor = checkpoint_processor(checkpoint, data, size)

    # Precision is a matter of the training, not of the type that a checkpoint was saved in.
    how = {"trust_remote_code": remote_code, "dtype": torch.float32}

    def build(mode: str) -> PreTrainedModel:
        if mode == "retrain":
            model = from_scratch(config, names, size, remote_code)
        else:
            with reading_checkpoint("checkpoint", checkpoint):
                load, new_head = AutoModelForImageClassification.from_pretrained, mode == "finetune"
                model = load_whole(load, checkpoint, new_head=new_head, **how)
            set_image_size(model, size)
            set_classes(model, names)
        use_soft_targets(model)
        return model

    def teacher(name: str) -> PreTrainedModel:
        config_of(name, remote_code, AUTO_CLASSES["vision"], "teacher")
        with reading_checkpoint("teacher", name):
            model = load_whole(AutoModelForImageClassification.from_pretrained, name, **how)
        check_teaches(name, model, names)
        if image_size_of(model.config) not in (None, size):
            raise ValueError(
                f"teacher {name} takes images of {image_size_of(model.config)} pixels, these have {size}; use --image_size or "
                "another teacher"
            )
        return model

    return Task(image_examples(splits, processor, size, data, augmentation), build, teacher)
