"""Search a ViT space with entangled weights and export what it finds as a plain image classifier.

    accelerate launch recipes/search_vit.py                            # scikit-learn's digits, a few minutes on a CPU
    accelerate launch recipes/search_vit.py --config recipes/configs/fashion_mnist.yaml
    accelerate launch recipes/search_vit.py --dataset my_photos --image_size 64 --patch_size 8 --output_dir runs/photos
    accelerate launch recipes/search_vit.py --max_params 50% --output_dir runs/half    # at most half the parameters
    accelerate launch recipes/search_vit.py --pareto flops --output_dir runs/front     # nets of many costs
    accelerate launch recipes/search_vit.py --config recipes/configs/autoformer_tiny_imagenet.yaml --dry_run
    accelerate launch recipes/search_vit.py --push_to_hub --hub_model_id me/found          # publish it with its card

The weights train on augmented images. The architecture parameters, and every score, see images as the exported image
processor makes them. Continue a stopped run with the same command and --resume.
"""

from dataclasses import dataclass

from tangle_hf import ElasticViTConfig, ElasticViTForImageClassification
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.soft_targets import use_soft_targets
from tangle_hf.errors import readable_errors
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.checkpoint_errors import reading_checkpoint
from tangle_hf.models.image_classifiers import check_patches, check_teaches, set_classes, set_image_size
from tangle_hf.models.space_settings import ViTSpaceArguments, search_space
from tangle_hf.runs.dry_runs import dry_run, made_up_image
from tangle_hf.runs.image_search import SmallAugmentationArguments, classes_and_size, load_for_search
from tangle_hf.runs.reports import report
from tangle_hf.runs.run import Run
from tangle_hf.runs.search import find
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse, with_default


@dataclass
class ImageSearchArguments(SearchArguments):
    """The trainer's settings, with defaults for images."""

    output_dir: str = with_default(SearchArguments, "output_dir", "runs/search_vit")
    max_steps: int = with_default(SearchArguments, "max_steps", 600)
    per_device_batch_size: int = with_default(SearchArguments, "per_device_batch_size", 64)
    weight_decay: float = with_default(SearchArguments, "weight_decay", 0.05)


def main(
    space: ViTSpaceArguments,
    data: ImageArguments,
    augmentation: AugmentationArguments,
    settings: SearchArguments,
    hub: SearchHubArguments,
) -> None:
    """The whole run: data, supernet, search, report."""
    if space.drop_path_rate and settings.resolved_method.single_paths:
        raise ValueError(
            f"drop_path_rate={space.drop_path_rate} is for mixtures, method={settings.method} trains weights on single "
            "paths, which are plain nets without stochastic depth; use --drop_path_rate 0"
        )
    # What is wrong with the space is said before any image is read.
    supernet_config(space, data.num_channels, data.image_size or space.patch_size, ["first", "second"])
    with Run(space, data, augmentation, settings, hub) as run:
        if settings.dry_run:
            names, size = classes_and_size(data, run.accelerator)
            supernet = build_supernet(space, data.num_channels, size, names, settings.start_from)
            example = made_up_image(data.num_channels, size, len(names))
            return dry_run(supernet, settings, run.accelerator, example, "images")
        images = load_for_search(data, augmentation, run.accelerator, settings.start_from)
        teaches = settings.teacher_share > 0
        supernet = build_supernet(
            space, data.num_channels, images.image_size, images.names, settings.start_from, teaches
        )
        batch = settings.per_device_batch_size * run.accelerator.num_processes
        weights, architecture = images.split(settings.train_portion, settings.seed, batch)
        found = find(run, supernet, images, weights, architecture)
        if found is not None:  # None: stopped, or another process reports
            report(run, supernet, images, found)


def supernet_config(
    arguments: ViTSpaceArguments, num_channels: int, image_size: int, names: list[str]
) -> ElasticViTConfig:
    """The supernet's config of these arguments."""
    check_patches(image_size, arguments.patch_size)
    return ElasticViTConfig(
        space=search_space(arguments, ["hidden_size", "num_hidden_layers"], ["num_attention_heads", "mlp_ratio"]),
        head_dim=arguments.head_dim,
        superposition=arguments.superposition,
        layer_ranks=arguments.layer_ranks or None,
        initializer_range=arguments.initializer_range,
        drop_path_rate=arguments.drop_path_rate,
        hidden_dropout_prob=arguments.dropout,
        attention_probs_dropout_prob=arguments.dropout,
        image_size=image_size,
        patch_size=arguments.patch_size,
        num_channels=num_channels,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )


def build_supernet(
    arguments: ViTSpaceArguments,
    num_channels: int,
    image_size: int,
    names: list[str],
    start_from: str | None = None,
    teaches: bool = False,
) -> ElasticViTForImageClassification:
    """A new supernet, or one that starts from a ViT checkpoint, with a new head if its classes are others.

    Raises:
        ValueError: The checkpoint cannot be read; the patches do not divide the image, or do not fit the checkpoint; the
            space cannot be.
    """
    config = supernet_config(arguments, num_channels, image_size, names)
    if start_from is None:
        supernet = ElasticViTForImageClassification(config)
    else:
        own = ("space", "head_dim", "superposition", "layer_ranks", "drop_path_rate")
        dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        options = {name: getattr(config, name) for name in (*own, *dropouts)}
        with reading_checkpoint("start_from", start_from):
            loaded = ElasticViTForImageClassification.from_pretrained(start_from, **options)
        for name, given in (("num_channels", num_channels), ("patch_size", arguments.patch_size)):
            if (found := getattr(loaded.config, name)) != given:
                raise ValueError(f"{start_from} has {name}={found}, not {given}; use --{name} {found}")
        if teaches:
            check_teaches(start_from, loaded, names)
        set_image_size(loaded, image_size)
        set_classes(loaded, names)
        # A new one, whose tables of what an architecture owns are those of this size and these classes.
        supernet = ElasticViTForImageClassification(loaded.config)
        supernet.load_state_dict(loaded.state_dict())
    use_soft_targets(supernet)
    return supernet


if __name__ == "__main__":
    with readable_errors():
        main(
            *parse(
                ViTSpaceArguments,
                ImageArguments,
                SmallAugmentationArguments,
                ImageSearchArguments,
                SearchHubArguments,
                description=__doc__,
            )
        )
