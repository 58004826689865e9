"""Image classifiers from checkpoints: another image size, another set of classes, the image processor that fits."""

import copy
import math
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel

from ..data.images.settings import ImageArguments
from ..data.images.transforms import image_processor, resize_settings
from .checkpoint_errors import reading_processor


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")  # either may hold an image processor


def names_of(config: PreTrainedConfig) -> list[str]:
    """The names of a model's classes, in the order of their numbers."""
    return [config.id2label[number] for number in sorted(config.id2label)]


def set_names(config: PreTrainedConfig, names: list[str]) -> None:
    """Gives a config other classes, in place."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}


def set_classes(model: PreTrainedModel, names: list[str]) -> None:
    """Gives the model a new head, with fresh weights, if its classes are not these; in place.

    The same number of classes with other names counts as other classes.

    Raises:
        ValueError: The model has no linear head called `classifier`.
    """
    if names_of(model.config) == names:
        return
    head = getattr(model, "classifier", None)
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"{type(model).__name__} has no linear layer called classifier, so its classes {names_of(model.config)[:10]} "
            f"cannot be exchanged for {names[:10]}"
        )
    set_names(model.config, names)
    model.num_labels = len(names)
    model.classifier = nn.Linear(head.in_features, len(names), device=head.weight.device, dtype=head.weight.dtype)
    model._init_weights(model.classifier)


def check_teaches(checkpoint: str, model: PreTrainedModel, names: list[str]) -> None:
    """Refuses a teacher of other classes than those of the data.

    Raises:
        ValueError: It has others, or has them in another order.
    """
    if (own := names_of(model.config)) != names:
        raise ValueError(
            f"{checkpoint} has classes {own[:10]}, the data {names[:10]} ({len(own)} and {len(names)} in all), so that it "
            "cannot teach them; leave out --teacher_share, or --teacher of a fine-tuning"
        )


def image_size_of(config: PreTrainedConfig) -> int | None:
    """Height and width of the images that a model takes, in pixels; None of a model that takes any.

    Raises:
        ValueError: They differ.
    """
    size = getattr(config, "image_size", None)
    if not isinstance(size, (list, tuple)):
        return size
    if len(set(size)) > 1:
        raise ValueError(f"a {config.model_type} for images of {size} pixels is not supported; images must be square")
    return size[0]


def check_patches(image_size: int, patch_size: int) -> None:
    """Refuses a patch size that does not divide the image.

    Raises:
        ValueError: The patch size does not divide the image size.
    """
    if patch_size < 1 or image_size % patch_size:
        allowed = [size for size in range(1, image_size + 1) if image_size % size == 0]
        raise ValueError(
            f"patches of {patch_size} pixels do not divide an image of {image_size}; use a patch size of {allowed}, or "
            f"an image size that is a multiple of {patch_size}"
        )


@torch.no_grad()
def set_image_size(model: PreTrainedModel, image_size: int) -> None:
    """Interpolates the position table of a ViT for another image size, in place.

    It is what the model's own `interpolate_pos_encoding=True` computes in each forward pass, written into the table
    once: the result needs no such argument, trains its own table, and is saved under the new size.

    Args:
        model: A ViT, or a model with its embeddings.
        image_size: Height and width, in pixels; a multiple of the patch size.

    Raises:
        ValueError: The model has no such table, or the patch size does not divide the image.
    """
    if image_size_of(model.config) in (None, image_size):
        return
    embeddings = getattr(model.base_model, "embeddings", None)
    table, patches = getattr(embeddings, "position_embeddings", None), getattr(embeddings, "patch_embeddings", None)
    if not isinstance(table, nn.Parameter) or not hasattr(embeddings, "interpolate_pos_encoding"):
        raise ValueError(
            f"{type(model).__name__} has no position table to interpolate; use its own --image_size "
            f"{model.config.image_size}"
        )
    check_patches(image_size, model.config.patch_size)
    count = (image_size // model.config.patch_size) ** 2
    shape_only = table.new_empty(1, 1 + count, table.shape[2])  # a class token and the patches
    resized = embeddings.interpolate_pos_encoding(shape_only, image_size, image_size)
    embeddings.position_embeddings = nn.Parameter(resized.clone())
    embeddings.image_size = patches.image_size = (image_size, image_size)
    patches.num_patches = count
    model.config.image_size = image_size


def from_scratch(config: PreTrainedConfig, names: list[str], image_size: int, remote_code: bool) -> PreTrainedModel:
    """A model of the same architecture with fresh weights, for these classes and this image size."""
    config = copy.deepcopy(config)
    set_names(config, names)
    check_patches(image_size, getattr(config, "patch_size", 1))  # convolutional nets have no patches
    config.image_size = image_size
    return AutoModelForImageClassification.from_config(config, trust_remote_code=remote_code, dtype=torch.float32)


def checkpoint_processor(checkpoint: str, data: ImageArguments, image_size: int):
    """The checkpoint's image processor, changed only where the size or the data arguments ask for it; a new one without.

    One that is there and cannot be read is no reason for a new one, whose mean and deviation may be others.

    Args:
        checkpoint: Folder or Hub name.
        data: Mean, standard deviation and crop override those of the checkpoint.
        image_size: Height and width that the model takes, in pixels.

    Raises:
        ValueError: It is damaged, or its mean and deviation are no numbers to normalise with.
    """
    there = any((Path(checkpoint) / name).is_file() for name in PROCESSOR_FILES)
    try:
        with reading_processor(checkpoint) if there else nullcontext():
            own = AutoImageProcessor.from_pretrained(checkpoint)
    except OSError:
        return image_processor(data, image_size)
    mean, deviation = own.image_mean, own.image_std
    if not (_finite(mean) and _finite(deviation) and all(value > 0 for value in deviation)):
        raise ValueError(
            f"the image processor of {checkpoint} has image_mean={mean} and image_std={deviation}; these must be finite "
            "numbers, and image_std above 0"
        )
    channels = {"image_mean": data.image_mean, "image_std": data.image_std}
    changes = {
        name: values * data.num_channels if len(values) == 1 else values for name, values in channels.items() if values
    }
    square = own.crop_size if own.do_center_crop else own.size
    crop, edge = 1.0, own.size.get("shortest_edge")
    if own.do_center_crop and edge:
        crop = own.crop_size["height"] / edge
    if data.eval_crop is not None or square.get("height") != image_size or square.get("width") != image_size:
        changes |= resize_settings(image_size, data.eval_crop or crop)
    return AutoImageProcessor.from_pretrained(checkpoint, **changes) if changes else own


def _finite(values) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(x, (int, float)) and math.isfinite(x) for x in values)
