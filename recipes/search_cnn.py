"""Search a convolutional space with entangled weights and export what it finds as an image classifier.

    accelerate launch recipes/search_cnn.py                            # conv-macro on scikit-learn's digits, enlarged
    accelerate launch recipes/search_cnn.py --space mobilenetv3 --strides 1 1 1 2 1 1 2 --output_dir runs/mobilenetv3
    accelerate launch recipes/search_cnn.py --space toy_cell --output_dir runs/toy_cell
    accelerate launch recipes/search_cnn.py --config recipes/configs/conv_macro_fashion_mnist.yaml
    accelerate launch recipes/search_cnn.py --max_flops 50% --output_dir runs/half     # at most half the FLOPs
    accelerate launch recipes/search_cnn.py --config recipes/configs/mobilenetv3_imagenet.yaml --dry_run

The weights train on augmented images. The architecture parameters, and every score, see images as the exported image
processor makes them. A net that is scored or exported gets batch-norm statistics of its own before, from training images.
Continue a stopped run with the same command and --resume.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.soft_targets import use_soft_targets
from tangle_hf.errors import readable_errors
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.image_classifiers import check_teaches, set_classes
from tangle_hf.models.space_settings import ConvSpaceArguments
from tangle_hf.runs.conv_examples import conv_examples
from tangle_hf.runs.conv_spaces import build_supernet, check_settings, notation, trained
from tangle_hf.runs.dry_runs import dry_run, made_up_image
from tangle_hf.runs.image_search import (
    ConvImageArguments,
    SmallAugmentationArguments,
    classes_and_size,
    load_for_search,
)
from tangle_hf.runs.reports import report
from tangle_hf.runs.run import Run
from tangle_hf.runs.search import find
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse, with_default


@dataclass
class ConvSearchArguments(SearchArguments):
    """The trainer's settings, with defaults for small convolutional nets."""

    output_dir: str = with_default(SearchArguments, "output_dir", "runs/search_cnn")
    max_steps: int = with_default(SearchArguments, "max_steps", 400)
    per_device_batch_size: int = with_default(SearchArguments, "per_device_batch_size", 64)
    usual_learning_rate: ClassVar[float] = 1e-3
    weight_decay: float = with_default(SearchArguments, "weight_decay", 5e-4)


def main(
    space: ConvSpaceArguments,
    data: ImageArguments,
    augmentation: AugmentationArguments,
    settings: SearchArguments,
    hub: SearchHubArguments,
) -> None:
    """The whole run: data, supernet, search, report."""
    table = trained(space)
    if settings.start_from is None:  # what is wrong with the space is said before any image is read
        with torch.device("meta"):
            plain = supernet_for(space, data.num_channels, data.image_size or 224, ["first", "second"])
        check_settings(plain, settings)
    with Run(space, data, augmentation, settings, hub) as run:
        if settings.dry_run:
            names, size = classes_and_size(data, run.accelerator)
            supernet = supernet_for(space, data.num_channels, size, names, settings.start_from)
            check_settings(supernet, settings)
            example = made_up_image(data.num_channels, size, len(names))
            return dry_run(supernet, settings, run.accelerator, example, "images")
        images = load_for_search(data, augmentation, run.accelerator, settings.start_from)
        start, teaches = settings.start_from, settings.teacher_share > 0
        supernet = supernet_for(space, data.num_channels, images.image_size, images.names, start, teaches)
        check_settings(supernet, settings)
        portion, seed = settings.train_portion, settings.seed
        batch = settings.per_device_batch_size * run.accelerator.num_processes
        weights, architecture = images.split(portion, seed, batch)
        own = {"recalibration_batches": space.recalibration_batches, "table": table, "write": notation(supernet)}
        images = conv_examples(images, portion, seed, batch=batch, **own)  # what is scored has statistics of its own
        found = find(run, supernet, images, weights, architecture)
        if found is not None:  # None: stopped, or another process reports
            report(run, supernet, images, found)


def supernet_for(
    arguments: ConvSpaceArguments,
    num_channels: int,
    image_size: int,
    names: list[str],
    start_from: str | None = None,
    teaches: bool = False,
) -> PreTrainedModel:
    """A new supernet, or one that starts from a checkpoint, with a new head if its classes are others.

    Raises:
        ValueError: The space is unknown, or cannot be built with these arguments or from this checkpoint.
    """
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    supernet = build_supernet(
        arguments, {"num_channels": num_channels, "image_size": image_size, **labels}, start_from
    )
    if start_from is not None:
        if teaches:
            check_teaches(start_from, supernet, names)
        set_classes(supernet, names)
        again = type(supernet)(supernet.config)  # whose tables of what an architecture owns are those of these classes
        again.load_state_dict(supernet.state_dict())
        supernet = again
    use_soft_targets(supernet)
    return supernet


if __name__ == "__main__":
    with readable_errors():
        main(
            *parse(
                ConvSpaceArguments,
                ConvImageArguments,
                SmallAugmentationArguments,
                ConvSearchArguments,
                SearchHubArguments,
                description=__doc__,
            )
        )
