"""Images for the vision recipes, whatever their source: checked, and split into "train", "validation" and "test".

Every split has a column `image` of undecoded files and a column `label` of class numbers whose names are those of the
features. `transforms.py` makes tensors of them.
"""

import numpy as np
from datasets import Dataset, IterableDataset

from ..files import say
from .classes import check_classes, check_labels, first_classes, labels_of, without_unused
from .columns import with_image_and_label
from .files import check_channels, only_readable, open_image
from .settings import ImageArguments
from .sources import read_splits
from .splits import cut, subsample


def load_images(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    """The images of "train", "validation" and "test", with columns `image` (undecoded) and `label` (ClassLabel).

    Validation images are in a random order that depends on `data_seed` only; a stream keeps its own order. Prints how many
    images and classes each split has.

    Raises:
        ValueError: The source cannot be read; a column is missing or ambiguous; a split is empty, unlabelled or lacks a
            class; the first image of a split cannot be read or does not suit `num_channels`.
    """
    splits = with_image_and_label(read_splits(arguments), arguments)
    if arguments.skip_corrupt_images:
        splits = {name: only_readable(split, name, arguments) for name, split in splits.items()}
    splits = without_unused(splits)
    if arguments.classes is not None:
        splits = {name: first_classes(split, arguments.classes) for name, split in splits.items()}
    for name, split in splits.items():
        _first(split, name)
        check_labels(split, name)
    check_classes(splits["train"], "train")
    if isinstance(validation := splits.get("validation"), Dataset):
        # Class folders come class by class, and the scores during a search read only the first batches.
        splits["validation"] = validation.shuffle(seed=arguments.data_seed, keep_in_memory=True)
    for name in ("validation", "test"):
        if name not in splits:
            splits["train"], splits[name] = cut(splits["train"], name, arguments.data_seed)
    splits["train"] = subsample(splits["train"], arguments)
    for name, split in splits.items():
        check_classes(split, name)
    counts = "; ".join(f"{name}: {_count(splits[name])}" for name in ("train", "validation", "test"))
    say(counts if arguments.dataset or arguments.train_file else f"{counts} (scikit-learn's digits)")
    check_channels({name: _first(split, name) for name, split in splits.items()}, arguments.num_channels)
    return splits


def resolve_image_size(arguments: ImageArguments, splits: dict[str, Dataset | IterableDataset]) -> int:
    """The given size, or that of the first training image.

    Raises:
        ValueError: No size is given and the first image is not square.
    """
    if arguments.image_size is not None:
        return arguments.image_size
    width, height = open_image(_first(splits["train"], "train")["image"], "the first training image").size
    if width != height:
        raise ValueError(
            f"the first training image is {width} wide and {height} high, the model's are square; use --image_size"
        )
    return width


def _first(split: Dataset | IterableDataset, name: str) -> dict:
    """The first row of a split; an empty split is refused."""
    row = next(iter(split), None)
    if row is None:
        raise ValueError(f"there are no {name} images; give at least one of each class")
    return row


def _count(split: Dataset | IterableDataset) -> str:
    names = split.features["label"].names
    if isinstance(split, IterableDataset):
        return f"a stream of {len(names)} classes"
    return f"{len(split):,} images of {len(np.unique(labels_of(split)))} classes"
