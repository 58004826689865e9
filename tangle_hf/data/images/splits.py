"""Parts of the training images with the classes in the same shares: held-out images, a subsample, the search's two levels."""

from itertools import islice

import numpy as np
from datasets import Dataset, Features, IterableDataset, Value

from ..streams import cut_stream, split_stream
from .classes import check_classes, labels_of
from .files import checksum
from .settings import ImageArguments


CUT_SHARE = 20  # a missing split is one 20th of the training images, as for text


def split_for_search(
    train: Dataset | IterableDataset, train_portion: float, seed: int, batch: int = 1
) -> tuple[Dataset | IterableDataset, Dataset | IterableDataset]:
    """Images for the weights and images for the architecture, without overlap; the paper's portions are 0.5 and 0.8.

    Both parts have the classes in the same shares. A stream is split by a checksum of each image instead, so that an
    image belongs to the same part whichever process meets it.

    Args:
        train: The training images.
        train_portion: Share of the weights, in (0, 1).
        seed: Seed of the split; a stream does not use it.
        batch: Images that each part of a stream must have; so many are read.

    Raises:
        ValueError: One part would be empty, or lack a class, or has less than one batch of a stream.
    """
    if isinstance(train, IterableDataset):
        parts = split_stream(train, train_portion, checksum)
        for name, part in zip(("weights'", "architecture's"), parts, strict=True):
            if (found := sum(1 for _ in islice(part, batch))) < batch:
                raise ValueError(
                    f"the {name} part of the training stream has {found} images, one batch is {batch}; use a smaller "
                    "--per_device_batch_size, another --train_portion or more images"
                )
        return parts
    weights = round(len(train) * train_portion)
    return _balanced_split(train, weights, seed, f"train_portion={train_portion}")


def cut(
    train: Dataset | IterableDataset, name: str, seed: int
) -> tuple[Dataset | IterableDataset, Dataset | IterableDataset]:
    """What is left of the training images, and the validation or test images that are cut out of them.

    That is a class-balanced 20th, at least one image of each class; of a stream, about every 20th image.

    Raises:
        ValueError: There are too few images of some class.
    """
    if isinstance(train, IterableDataset):
        return cut_stream(train, name, checksum)
    size = max(len(train.features["label"].names), len(train) // CUT_SHARE)
    return _balanced_split(train, len(train) - size, seed, f"the {name} images, which are cut out of train")


def subsample(train: Dataset | IterableDataset, arguments: ImageArguments) -> Dataset | IterableDataset:
    """The training images, or as many of them as the arguments ask for.

    Raises:
        ValueError: There are not so many, or too few for every class to be among them.
    """
    if arguments.samples_per_class is not None:
        labels, names, wanted = labels_of(train), train.features["label"].names, arguments.samples_per_class
        rng, chosen = np.random.default_rng(arguments.data_seed), []
        for number, name in enumerate(names):
            members = np.flatnonzero(labels == number)
            if len(members) < wanted:
                raise ValueError(
                    f"class {name!r} has {len(members)} training images, samples_per_class={wanted} is more"
                )
            chosen.append(rng.permutation(members)[:wanted])
        return train.select(np.sort(np.concatenate(chosen)))
    if arguments.max_train_samples is not None and arguments.max_train_samples < len(train):
        given = f"max_train_samples={arguments.max_train_samples}"
        return _balanced_split(train, arguments.max_train_samples, arguments.data_seed, given)[0]
    return train


def _balanced_split(images: Dataset, first: int, seed: int, what: str) -> tuple[Dataset, Dataset]:
    """The first so many of the shuffled images and the rest, with all classes in the same shares in both."""
    labels, features = labels_of(images), Features({"label": images.features["label"], "row": Value("int64")})
    rows = Dataset.from_dict({"label": labels, "row": range(len(images))}, features=features)
    try:
        found = rows.train_test_split(
            train_size=first, test_size=len(images) - first, stratify_by_column="label", seed=seed
        )
    except ValueError as error:
        names = images.features["label"].names
        counts = np.bincount(labels, minlength=len(names))
        number = f"{counts.min()} image{'' if counts.min() == 1 else 's'}"
        raise ValueError(
            f"{what}: a part of {len(images)} images would lack a class ({names[counts.argmin()]!r}, the rarest of "
            f"{len(counts)} classes, has {number}: {error}); use more images or another share"
        ) from error
    parts = [np.array(found[name]["row"][:]) for name in ("train", "test")]
    _give_rare(parts[0], parts[1], labels)
    _give_rare(parts[1], parts[0], labels)
    first_part, second_part = (images.select(part) for part in parts)
    for part in (first_part, second_part):
        check_classes(part, f"{what} part:")
    return first_part, second_part


def _give_rare(large: np.ndarray, small: np.ndarray, labels: np.ndarray) -> None:
    """Exchanges images in place, so that each class has one in the second part, where rounding has left it none."""
    for rare in np.setdiff1d(labels[large], labels[small]):
        members = np.flatnonzero(labels[large] == rare)
        counts = np.bincount(labels[small])
        if len(members) > 1 and counts.max() > 1:
            given, taken = members[-1], np.flatnonzero(labels[small] == counts.argmax())[-1]
            large[given], small[taken] = small[taken], large[given]
