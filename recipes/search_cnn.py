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

from transformers import PreTrainedModel

from tangle_hf import extract, flops, one_hot
from tangle_hf.data.images.settings import ImageArguments, describe
from tangle_hf.data.images.splits import split_for_search
from tangle_hf.data.images.transforms import (
    AugmentationArguments,
    evaluation_images,
    training_images,
    use_soft_targets,
)
from tangle_hf.data.trained_tables import look_up
from tangle_hf.evaluation import accuracy
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.image_classifiers import set_classes
from tangle_hf.models.space_settings import ConvSpaceArguments
from tangle_hf.runs.conv_spaces import build_supernet, check_settings, notation, trained
from tangle_hf.runs.dry_runs import dry_run
from tangle_hf.runs.folder import defaults_of, settings_of
from tangle_hf.runs.image_search import (
    ConvImageArguments,
    SmallAugmentationArguments,
    first_images,
    load_for_search,
    made_up_image,
    processor_for,
)
from tangle_hf.runs.search_run import readable_errors, run, start
from tangle_hf.runs.task import SearchTask
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse, with_default
from tangle_hf.space import Architecture
from tangle_hf.subnets.recalibration import recalibrate, still_batches


@dataclass
class ConvSearchArguments(SearchArguments):
    """The trainer's settings, with defaults for small convolutional nets."""

    output_dir: str = with_default(SearchArguments, "output_dir", "runs/search_cnn")
    max_steps: int = with_default(SearchArguments, "max_steps", 400)
    per_device_batch_size: int = with_default(SearchArguments, "per_device_batch_size", 64)
    learning_rate: float = with_default(SearchArguments, "learning_rate", 1e-3)
    min_learning_rate: float = with_default(SearchArguments, "min_learning_rate", 1e-4)
    weight_decay: float = with_default(SearchArguments, "weight_decay", 5e-4)


def main(
    space: ConvSpaceArguments,
    data: ImageArguments,
    augmentation: AugmentationArguments,
    settings: SearchArguments,
    hub: SearchHubArguments,
) -> None:
    """The whole run: data, supernet, search, export, table."""
    parts = (space, data, augmentation, settings, hub)
    resolved = settings_of(*parts)
    accelerator = start(settings, hub, resolved, defaults_of(*parts))
    batch_size, seed = settings.per_device_batch_size, settings.seed
    splits, names, image_size = load_for_search(data, settings.dry_run, accelerator)
    supernet, table = supernet_for(space, data.num_channels, image_size, names), trained(space)
    check_settings(supernet, settings)
    if settings.dry_run:
        example = made_up_image(data.num_channels, image_size, len(names))
        return dry_run(supernet, settings, accelerator, example, "images")

    processor = processor_for(space.start_from, data, image_size)
    batch = batch_size * accelerator.num_processes
    weights, architecture = split_for_search(splits["train"], settings.train_portion, seed, batch)
    held_out = {name: evaluation_images(splits[name], data, processor) for name in ("validation", "test")}
    own = evaluation_images(weights, data, processor)

    def batches(count: int):
        """Training images as they are evaluated, the same ones each time."""
        return still_batches(own, batch_size, count, seed)

    def net(arch: Architecture, count: int) -> PreTrainedModel:
        """An architecture with its own batch-norm statistics, from so many batches; the supernet stays as it is."""
        subnet = extract(supernet, arch)
        recalibrate(subnet, batches(count))
        return subnet

    def score(images, count: int, arch: Architecture | None = None, mixture=None) -> dict[str, float]:
        if arch is None:  # the running statistics are those of mixtures
            return accuracy(supernet, images, batch_size, count, mixture=mixture)
        scores = accuracy(net(arch, min(count, space.recalibration_batches)), images, batch_size, count)
        return scores | {f"table_{name}": value for name, value in known(arch).items()}

    def known(arch: Architecture) -> dict[str, float]:
        return {} if table is None else look_up(table, arch)

    def test(model, arch: Architecture | None = None, mixture=None) -> dict[str, float]:
        chosen = {}
        if arch is not None:
            model = net(arch, space.recalibration_batches)
        elif mixture is not None:
            recalibrate(model, batches(space.recalibration_batches), mixture)
            chosen = {"mixture": mixture}
        scores = accuracy(model, held_out["test"], batch_size, **chosen)
        return {"test loss": scores["loss"], "accuracy in %": 100 * scores["accuracy"]}

    task = SearchTask(
        pipeline="image-classification",
        processor=processor,
        train_data=training_images(weights, data, augmentation, processor, image_size, seed),
        arch_data=evaluation_images(architecture, data, processor),
        validation_data=held_out["validation"],
        score=score,
        test=test,
        compute=lambda arch: {"FLOPs/image": flops(supernet.space, arch, supernet.config), **known(arch)},
        sample=first_images(held_out["test"]),
        example="image",
        data=describe(data),
        settle=lambda arch: recalibrate(supernet, batches(space.recalibration_batches), one_hot(supernet.space, arch)),
        notation=notation(supernet),
    )
    run(supernet, task, settings, hub, accelerator, resolved)


def supernet_for(
    arguments: ConvSpaceArguments, num_channels: int, image_size: int, names: list[str]
) -> PreTrainedModel:
    """A new supernet, or one that starts from a checkpoint, with a new head if its classes are others.

    Raises:
        ValueError: As `build_supernet`.
    """
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    supernet = build_supernet(arguments, {"num_channels": num_channels, "image_size": image_size, **labels})
    if arguments.start_from is not None:
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
