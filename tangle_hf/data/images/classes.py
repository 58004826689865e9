"""The classes of images: their names and numbers, the first few of them, and a refusal where one is missing."""

import math

import numpy as np
from datasets import ClassLabel, Dataset, Features, IterableDataset

from ..files import say


def class_names(splits: dict[str, Dataset | IterableDataset]) -> list[str]:
    """The names of the classes, in the order of their numbers."""
    return splits["train"].features["label"].names


def labels_of(split: Dataset) -> np.ndarray:
    """The class numbers of all images; -1 where there is none, as some datasets have it in their test split."""
    return np.array([-1 if label is None else label for label in split["label"][:]], dtype=np.int64)


def number_labels(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Labels that are words, true and false, or any whole numbers as class numbers, in the order of the training labels.

    Raises:
        ValueError: An image has no label, or one that is no whole number, or one that no training image has.
    """
    values = {name: [_plain(label) for label in split["label"][:]] for name, split in splits.items()}
    for name, labels in values.items():
        if missing := sum(label is None for label in labels):
            raise ValueError(f"{missing} of {len(labels)} {name} images have no label; remove them or choose a split")
        if parts := [label for label in labels if isinstance(label, float)]:
            raise ValueError(
                f"the {name} images have the label {parts[0]}; numbers of classes are whole, and this recipe can predict only "
                "classes"
            )
    known = sorted(set(values["train"]))
    for name, labels in values.items():
        if unknown := sorted(set(labels) - set(known)):
            raise ValueError(f"the {name} images have classes {unknown}, which the training images {known} do not")
    number = {label: n for n, label in enumerate(known)}
    names = ClassLabel(names=[str(label) for label in known])
    return {name: _with_labels(split, [number[x] for x in values[name]], names) for name, split in splits.items()}


def _plain(label):
    """A label as a word or a whole number; None where there is none."""
    if isinstance(label, float):
        return None if math.isnan(label) else int(label) if label.is_integer() else label
    return label


def _with_labels(split: Dataset, numbers: list[int], names: ClassLabel) -> Dataset:
    # Not a cast, which would write all images again.
    return split.remove_columns("label").add_column("label", numbers, feature=names)


def without_unused(splits: dict[str, Dataset | IterableDataset]) -> dict[str, Dataset | IterableDataset]:
    """The splits without the names of classes that no image has, which are printed; streams are returned unchanged."""
    if any(isinstance(split, IterableDataset) for split in splits.values()):
        return splits
    labels, names = {name: labels_of(split) for name, split in splits.items()}, class_names(splits)
    used = sorted(set(np.concatenate(list(labels.values())).tolist()) - {-1})
    if len(used) == len(names):
        return splits
    unused = [name for number, name in enumerate(names) if number not in set(used)]
    say(f"{len(unused)} of {len(names)} classes have no image and are dropped: {', '.join(unused[:10])}")
    number = {-1: -1} | {old: new for new, old in enumerate(used)}
    kept = ClassLabel(names=[names[old] for old in used])
    return {
        name: _with_labels(split, [number[label] for label in labels[name].tolist()], kept)
        for name, split in splits.items()
    }


def first_classes(split: Dataset | IterableDataset, count: int) -> Dataset | IterableDataset:
    """The images of the first so many classes.

    Raises:
        ValueError: There are not so many.
    """
    names = split.features["label"].names
    if count > len(names):
        raise ValueError(
            f"classes={count} is more than the {len(names)} classes of the dataset; use at most that many"
        )
    if isinstance(split, IterableDataset):
        kept = split.filter(lambda row: 0 <= row["label"] < count)
        return kept.cast_column("label", ClassLabel(names=names[:count]))
    labels = labels_of(split)
    kept = split.select(np.flatnonzero((labels >= 0) & (labels < count)))
    # Not a cast, which would write all images again; a selection has an info of its own.
    kept.info.features = Features({**kept.features, "label": ClassLabel(names=names[:count])})
    return kept


def check_labels(split: Dataset | IterableDataset, name: str) -> None:
    """Refuses images without a label; a stream is not checked.

    Raises:
        ValueError: An image has no label.
    """
    if isinstance(split, IterableDataset):
        return
    if unlabelled := int((labels_of(split) < 0).sum()):
        raise ValueError(
            f"{unlabelled} of {len(split)} {name} images have no label; use another --{name}_split, as in "
            "--test_split validation"
        )


def check_classes(split: Dataset | IterableDataset, name: str) -> None:
    """Refuses a split that has no image of some class; a stream is not checked.

    Raises:
        ValueError: A class has no image.
    """
    if isinstance(split, IterableDataset):
        return
    names = split.features["label"].names
    counts = np.bincount(labels_of(split), minlength=len(names))
    if missing := [names[number] for number in np.flatnonzero(counts == 0)]:
        raise ValueError(
            f"{name} has no image of {len(missing)} of {len(names)} classes: {missing[:10]}; add some, use fewer --classes, "
            "or cut this split out of train (--validation_split cut, --test_split cut)"
        )
