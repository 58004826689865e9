"""Which columns hold image and label: found or given, and then called `image` and `label` in every split."""

from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value

from .classes import number_labels
from .settings import ImageArguments


def with_image_and_label(splits: dict, arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    """Every split with the columns `image`, undecoded, and `label`, with the same names of the classes.

    Raises:
        ValueError: A column is missing or ambiguous, or the splits have different classes.
    """
    features = splits["train"].features or {}
    image, label = _image_column(features, arguments), _label_column(features, arguments)
    for name, split in splits.items():
        for column in (image, label):
            if column not in (split.features or {}):
                raise ValueError(f"the {name} images have columns {list(split.features or {})}, none is {column!r}")
    kept = {name: split.select_columns([image, label]) for name, split in splits.items()}
    renamed = {old: new for old, new in ((image, "image"), (label, "label")) if old != new}
    kept = {name: split.rename_columns(renamed) if renamed else split for name, split in kept.items()}
    kept = {name: split.cast_column("image", Image(decode=False)) for name, split in kept.items()}
    if isinstance(features[label], ClassLabel):
        for name, split in kept.items():
            names = split.features["label"].names if isinstance(split.features["label"], ClassLabel) else None
            if names != features[label].names:
                raise ValueError(f"train and {name} have different classes: {features[label].names} and {names}")
        return kept
    if arguments.streaming:
        raise ValueError(
            f"the labels in column {label!r} are {features[label].dtype}, their names are not known before the stream "
            "has ended; leave out --streaming, or store them as ClassLabel"
        )
    return number_labels(kept)


def _image_column(features: Features | dict, arguments: ImageArguments) -> str:
    candidates = [name for name, kind in features.items() if isinstance(kind, Image) or _holds_files(kind)]
    return _one_column("image", arguments.image_column, candidates, features)


def _holds_files(kind) -> bool:
    """Whether a column without type information has the {bytes, path} of an image."""
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}


def _label_column(features: Features | dict, arguments: ImageArguments) -> str:
    candidates = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    plain = [n for n, k in features.items() if isinstance(k, Value) and (k.dtype == "string" or "int" in k.dtype)]
    if arguments.label_column in plain:
        return arguments.label_column
    if arguments.label_column is None and list(features) == ["image"]:
        # What datasets finds in a folder without class folders, or with one.
        raise ValueError(
            "of the columns ['image'] none holds labels; images of a folder must be in class folders, at least two, as "
            "train/cat/1.png and train/dog/1.png; other data need a column of labels"
        )
    return _one_column("label", arguments.label_column, candidates or plain, features)


def _one_column(kind: str, given: str | None, candidates: list[str], features: Features | dict) -> str:
    if given is not None:
        if given not in candidates:
            raise ValueError(
                f"{kind}_column={given!r} holds no {kind}s; the columns are {list(features)}, with {kind}s {candidates}"
            )
        return given
    if len(candidates) != 1:
        found = f"several may hold the {kind}s, {candidates}" if candidates else f"none holds {kind}s"
        raise ValueError(f"of the columns {list(features)} {found}; use --{kind}_column")
    return candidates[0]
