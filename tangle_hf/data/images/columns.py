"""Which columns hold image and label: found or given, and then called `image` and `label` in every split."""

from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, LargeList, List, Value

from ..column_kinds import holds, is_text
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
            f"the labels in column {label!r} are {holds(features[label])}, their names are not known before the stream "
            "has ended; leave out --streaming, or store them as ClassLabel"
        )
    return number_labels(kept)


def _image_column(features: Features | dict, arguments: ImageArguments) -> str:
    candidates = [name for name, kind in features.items() if isinstance(kind, Image) or _holds_files(kind)]
    plain = [name for name, kind in features.items() if isinstance(kind, Value) and "binary" in kind.dtype]
    if arguments.image_column in plain:
        return arguments.image_column
    return _one_column("image", arguments.image_column, candidates or plain, features)


def _holds_files(kind) -> bool:
    """Whether a column without type information has the {bytes, path} of an image, perhaps with its size or the like."""
    return isinstance(kind, dict) and isinstance(kind.get("bytes"), Value) and "binary" in kind["bytes"].dtype


def _label_column(features: Features | dict, arguments: ImageArguments) -> str:
    values = {name: kind for name, kind in features.items() if isinstance(kind, Value)}
    # The likeliest first: only where there is none, a column of another kind may be meant without being named.
    kinds = (
        [name for name, kind in features.items() if isinstance(kind, ClassLabel)],
        [name for name, kind in values.items() if is_text(kind) or "int" in kind.dtype],
        [name for name, kind in values.items() if kind.dtype == "bool"],
        [name for name, kind in values.items() if "float" in kind.dtype],
    )
    given = arguments.label_column
    if given in sum(kinds, []):
        return given
    several = [name for name, kind in features.items() if _holds_labels(kind) and given in (None, name)]
    if several and not (given is None and any(kinds)):
        raise ValueError(
            f"column {several[0]!r} holds {holds(features[several[0]])}: several labels for an image, this recipe tells one "
            "class for each; give a column with one label by --label_column"
        )
    if given is None and list(features) == ["image"]:
        # What datasets finds in a folder without class folders, or with one.
        raise ValueError(
            "of the columns ['image'] none holds labels; images of a folder must be in class folders, at least two, as "
            "train/cat/1.png and train/dog/1.png; other data need a column of labels"
        )
    return _one_column("label", given, next((names for names in kinds if names), []), features)


def _holds_labels(kind) -> bool:
    """Whether a column has several labels for each image."""
    return isinstance(kind, (List, LargeList)) and isinstance(kind.feature, (Value, ClassLabel))


def _one_column(kind: str, given: str | None, candidates: list[str], features: Features | dict) -> str:
    if given is not None:
        if given not in candidates:
            what = f"holds {holds(features[given])}, no {kind}s" if given in features else f"holds no {kind}s"
            raise ValueError(
                f"{kind}_column={given!r} {what}; the columns are {list(features)}, with {kind}s {candidates}"
            )
        return given
    if len(candidates) != 1:
        found = f"several may hold the {kind}s, {candidates}" if candidates else f"none holds {kind}s"
        raise ValueError(f"of the columns {list(features)} {found}; use --{kind}_column")
    return candidates[0]
