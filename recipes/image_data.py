"""Images for the vision recipes: load them, find image and label, check them, split them for the two levels of the search.

Whatever the source, the splits come out alike: a column `image` of undecoded files and a column `label` of class numbers
whose names are those of the features. `image_transforms.py` makes tensors of them.
"""

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from PIL import Image as PILImage
from PIL import ImageOps


USUAL_NAMES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
CUT = "cut"
CUT_SHARE = 20  # a missing split is one 20th of the training images, as for text


@dataclass
class DataArguments:
    """Which images, in which size. With nothing given: the 1,797 handwritten digits inside scikit-learn, 8x8 and grey.

    Raises:
        ValueError: A number is out of its range, or two settings exclude each other.
    """

    _argument_group_name = "data"

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Hub name, or a local folder: class folders of images, data files, or what save_to_disk left"
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "configuration of that dataset"})
    train_file: str | None = field(default=None, metadata={"help": "training images: a .parquet file"})
    validation_file: str | None = field(default=None, metadata={"help": "validation images; default: cut from train"})
    test_file: str | None = field(default=None, metadata={"help": "test images; default: cut from train"})
    train_split: str = field(default="train", metadata={"help": "split of the dataset to train on"})
    validation_split: str | None = field(
        default=None,
        metadata={"help": "split to validate on; default: validation, valid, val or dev if there is one, else cut; "
                          "'cut' takes a class-balanced 20th of the training images"},
    )  # fmt: skip
    test_split: str | None = field(
        default=None, metadata={"help": "split to test on; default: test if there is one, else cut"}
    )
    image_column: str | None = field(default=None, metadata={"help": "column of the images; default: the only one"})
    label_column: str | None = field(default=None, metadata={"help": "column of the labels; default: the only one"})
    image_size: int | None = field(
        default=None, metadata={"help": "height and width given to the model; default: those of the first image"}
    )
    num_channels: int = field(
        default=3,
        metadata={"help": "3 (grey images are repeated) or 1 (grey images only; an image-classification pipeline then "
                          "wants arrays of shape (1, height, width), since it turns other images into RGB)"},
    )  # fmt: skip
    image_mean: list[float] = field(
        default_factory=list, metadata={"help": "mean of each channel, in [0, 1]; default: 0.5, or the checkpoint's"}
    )
    image_std: list[float] = field(
        default_factory=list,
        metadata={"help": "standard deviation of each channel; default: 0.5, or the checkpoint's"},
    )
    eval_crop: float | None = field(
        default=None,
        metadata={"help": "side of the centre crop that is evaluated / shorter side of the image, 0.875 for DeiT; "
                          "1: the whole image, squeezed into a square; default: 1, or the checkpoint's"},
    )  # fmt: skip
    classes: int | None = field(default=None, metadata={"help": "keep the first so many classes only"})
    samples_per_class: int | None = field(
        default=None, metadata={"help": "keep so many training images of each class, for quick trials"}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "keep so many training images, with the shares of the classes unchanged"}
    )
    data_seed: int = field(
        default=0,
        metadata={"help": "seed of cutting and subsampling, apart from --seed: all seeds see the same images"},
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "read the dataset as a stream, in its own order and without downloading it all. Parts are "
                          "told apart by a checksum of each image: they never overlap, but classes are balanced only "
                          "on average, and missing classes are not noticed"},
    )  # fmt: skip
    skip_corrupt_images: bool = field(
        default=False, metadata={"help": "read every image once before the start and leave out those that cannot be"}
    )
    preprocessing_workers: int | None = field(default=None, metadata={"help": "processes that read them"})

    def __post_init__(self):
        if self.dataset and self.train_file:
            raise ValueError(f"dataset={self.dataset} and train_file={self.train_file} are both given; choose one")
        if not self.train_file and (self.validation_file or self.test_file):
            raise ValueError("validation_file and test_file need a train_file")
        for name in ("image_size", "classes", "samples_per_class", "max_train_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.classes == 1:
            raise ValueError("classes=1 leaves nothing to tell apart; use at least 2")
        if self.num_channels not in (1, 3):
            raise ValueError(f"num_channels={self.num_channels} must be 1 (grey) or 3 (RGB)")
        if self.eval_crop is not None and not 0.1 <= self.eval_crop <= 1:
            raise ValueError(f"eval_crop={self.eval_crop} must be from 0.1 to 1")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if values and len(values) not in (1, self.num_channels):
                raise ValueError(
                    f"{name}={values} must have one number, or one for each of {self.num_channels} channels"
                )
        if any(value <= 0 for value in self.image_std):
            raise ValueError(f"image_std={self.image_std} must be above 0")
        if self.samples_per_class and self.max_train_samples:
            raise ValueError("samples_per_class and max_train_samples are both given; choose one")
        if self.streaming and (self.samples_per_class or self.max_train_samples):
            raise ValueError(
                "samples_per_class and max_train_samples need to count images beforehand, which a stream does not; "
                "leave out --streaming, or shorten the run with --max_steps"
            )


def load_images(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    """The images of "train", "validation" and "test", with columns `image` (undecoded) and `label` (ClassLabel).

    Raises:
        ValueError: The source cannot be read; a column is missing or ambiguous; a split is empty, unlabelled or lacks a
            class; the first training image does not suit `num_channels`.
    """
    with _no_bars(arguments.dataset is None or Path(arguments.dataset).exists()):
        splits = _canonical(_read(arguments), arguments)
    if arguments.skip_corrupt_images:
        splits = {name: _only_readable(split, name, arguments) for name, split in splits.items()}
    if arguments.classes is not None:
        splits = {name: _first_classes(split, arguments.classes) for name, split in splits.items()}
    for name, split in splits.items():
        _check_labels(split, name)
    for name in ("validation", "test"):
        if name not in splits:
            splits["train"], splits[name] = _cut(splits["train"], name, arguments.data_seed)
    splits["train"] = _subsample(splits["train"], arguments)
    for name, split in splits.items():
        _check_classes(split, name)
    row = _first(splits["train"], "train")
    image = open_image(row["image"], "the first training image", mode=None)
    to_channels(image, arguments.num_channels, "the first training image")
    if arguments.num_channels == 3 and image.mode in ("1", "L", "LA"):
        _say("the images are grey; they are repeated to 3 channels")
    return splits


def describe(arguments: DataArguments) -> str:
    """What the images are, in a few words and without the folders of this machine."""
    if arguments.train_file is not None:
        return f"the images of {Path(arguments.train_file).name}"
    if arguments.dataset is None:
        return "the handwritten digits inside scikit-learn (load_digits)"
    return Path(arguments.dataset).name if Path(arguments.dataset).exists() else arguments.dataset


def class_names(splits: dict[str, Dataset | IterableDataset]) -> list[str]:
    """The names of the classes, in the order of their numbers."""
    return splits["train"].features["label"].names


def resolve_image_size(arguments: DataArguments, splits: dict[str, Dataset | IterableDataset]) -> int:
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


def check_patches(image_size: int, patch_size: int) -> None:
    """Refuses a patch size that does not divide the image.

    Raises:
        ValueError: So.
    """
    if patch_size < 1 or image_size % patch_size:
        allowed = [size for size in range(1, image_size + 1) if image_size % size == 0]
        raise ValueError(
            f"patches of {patch_size} pixels do not divide an image of {image_size}; use a patch size of {allowed}, or "
            f"an image size that is a multiple of {patch_size}"
        )


def split_for_search(
    train: Dataset | IterableDataset, train_portion: float, seed: int
) -> tuple[Dataset | IterableDataset, Dataset | IterableDataset]:
    """Images for the weights and images for the architecture, without overlap; the paper's portions are 0.5 and 0.8.

    Both parts have the classes in the same shares. A stream is split by a checksum of each image instead, so that an
    image belongs to the same part whichever process meets it.

    Args:
        train: The training images.
        train_portion: Share of the weights, in (0, 1).
        seed: Of the split; a stream does not use it.

    Raises:
        ValueError: One part would be empty, or lack a class.
    """
    if isinstance(train, IterableDataset):
        weights = round(20 * train_portion)
        if not 0 < weights < 20:
            raise ValueError(f"train_portion={train_portion} leaves a part of a stream empty; use 0.05 to 0.95")
        # The remainder by 20 has cut validation and test out; the quotient is independent of it.
        return (
            train.filter(lambda row: _checksum(row) // 20 % 20 < weights),
            train.filter(lambda row: _checksum(row) // 20 % 20 >= weights),
        )
    weights = round(len(train) * train_portion)
    return _balanced_split(train, weights, seed, f"train_portion={train_portion}")


def open_image(cell: dict, where: str, mode: str | None = None) -> PILImage.Image:
    """The decoded image of a cell of the column `image`, upright.

    Args:
        cell: {"bytes": content or None, "path": file or None}.
        where: What to call an image without a path in an error.
        mode: PIL mode to convert to, or None.

    Raises:
        ValueError: The file is missing or corrupt; the message names it.
    """
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise ValueError(f"{where} is missing; remove the row, or use --skip_corrupt_images")
    try:
        content = cell["bytes"]
        if content is None:
            with fsspec.open(cell["path"], "rb") as file:  # a local file, or inside an archive, or on the Hub
                content = file.read()
        image = ImageOps.exif_transpose(PILImage.open(io.BytesIO(content)))
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        raise ValueError(
            f"{cell['path'] or where} is not a readable image ({error}); repair or remove it, or use "
            "--skip_corrupt_images"
        ) from error
    return image if mode is None else image.convert(mode)


def to_channels(image: PILImage.Image, num_channels: int, where: str) -> PILImage.Image:
    """The image as RGB (3 channels: grey is repeated, transparency dropped) or grey (1 channel).

    Raises:
        ValueError: A coloured image where grey is expected, or more than 8 bits per channel.
    """
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(
            f"{where} has mode {image.mode}, more than 8 bits per channel, which a conversion would cut off; store it "
            "with 8 bits"
        )
    if num_channels == 1 and image.mode not in ("1", "L", "LA"):
        raise ValueError(f"{where} is coloured (mode {image.mode}), num_channels=1 is for grey ones; use 3")
    # As the pipelines of transformers do it: what is evaluated is what they will see.
    return image.convert("RGB" if num_channels == 3 else "L")


def _read(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    """The splits of the source that will be used, as they are."""
    if arguments.train_file:
        return _read_files(arguments)
    found = _digits() if arguments.dataset is None else _read_dataset(arguments)
    wanted = {"train": arguments.train_split, "validation": arguments.validation_split, "test": arguments.test_split}
    for name, split in wanted.items():
        if split not in (None, CUT) and split not in found:
            raise ValueError(f"the dataset has splits {sorted(found)}, none is {split!r}; use --{name}_split")
    for name, usual in USUAL_NAMES.items():
        if wanted[name] is None:
            wanted[name] = next((split for split in usual if split in found), CUT)
    if arguments.validation_split is None and wanted["validation"] in (wanted["test"], wanted["train"]):
        wanted["validation"] = CUT  # as with ImageNet, whose validation images are what everyone tests on
    taken = [split for split in wanted.values() if split != CUT]
    if len(set(taken)) < len(taken):
        raise ValueError(
            f"train, validation and test must be different splits, not {wanted}; use 'cut' for one of them"
        )
    splits = {name: found[split] for name, split in wanted.items() if split != CUT}
    if arguments.streaming:
        return {n: s if isinstance(s, IterableDataset) else s.to_iterable_dataset() for n, s in splits.items()}
    return splits


def _read_files(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    files = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    files = {name: file for name, file in files.items() if file is not None}
    for name, file in files.items():
        if not Path(file).is_file() or Path(file).suffix != ".parquet":
            raise ValueError(f"{name}_file={file} must be an existing .parquet file; folders go to --dataset")
    # One by one: the files of one call must have the same columns, and the error would be that of the parquet reader.
    return {name: _read_file(name, file, arguments) for name, file in files.items()}


def _read_file(name: str, file: str, arguments: DataArguments) -> Dataset | IterableDataset:
    try:
        return load_dataset("parquet", data_files={name: file}, split=name, streaming=arguments.streaming)
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"{name}_file={file} has no images that could be read ({error}); give at least one"
        ) from error


def _read_dataset(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    folder = Path(arguments.dataset)
    if (folder / "dataset_dict.json").is_file():
        return dict(load_from_disk(arguments.dataset))
    if (folder / "state.json").is_file():
        return {"train": load_from_disk(arguments.dataset)}
    try:
        return dict(load_dataset(arguments.dataset, arguments.dataset_config, streaming=arguments.streaming))
    except (OSError, ConnectionError, ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"dataset {arguments.dataset!r} could not be loaded ({error}); check the name and the network, or give a "
            "local folder"
        ) from error


def _digits() -> dict[str, Dataset]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = [PILImage.fromarray((image * 255 / 16).round().astype(np.uint8)) for image in digits.images]
    features = Features({"image": Image(), "label": ClassLabel(names=[str(n) for n in range(10)])})
    return {"train": Dataset.from_dict({"image": images, "label": digits.target.tolist()}, features=features)}


def _canonical(splits: dict, arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    """Every split with the columns `image`, undecoded, and `label`, with the same names of the classes."""
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
    return _number_labels(kept)


def _image_column(features: Features | dict, arguments: DataArguments) -> str:
    candidates = [name for name, kind in features.items() if isinstance(kind, Image) or _holds_files(kind)]
    return _one_column("image", arguments.image_column, candidates, features)


def _holds_files(kind) -> bool:
    """Whether a column without type information has the {bytes, path} of an image."""
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}


def _label_column(features: Features | dict, arguments: DataArguments) -> str:
    candidates = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    plain = [n for n, k in features.items() if isinstance(k, Value) and (k.dtype == "string" or "int" in k.dtype)]
    if arguments.label_column in plain:
        return arguments.label_column
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


def _number_labels(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Labels that are words or any whole numbers as class numbers, in the order of the training labels."""
    values = {name: split["label"][:] for name, split in splits.items()}
    for name, labels in values.items():
        if missing := sum(label is None for label in labels):
            raise ValueError(f"{missing} of {len(labels)} {name} images have no label; remove them or choose a split")
    known = sorted(set(values["train"]))
    for name, labels in values.items():
        if unknown := sorted(set(labels) - set(known)):
            raise ValueError(f"the {name} images have classes {unknown}, which the training images {known} do not")
    names = ClassLabel(names=[str(label) for label in known])
    number = {label: n for n, label in enumerate(known)}
    # Not a cast, which would write all images again.
    return {
        name: split.remove_columns("label").add_column("label", [number[x] for x in values[name]], feature=names)
        for name, split in splits.items()
    }


def _only_readable(split: Dataset | IterableDataset, name: str, arguments: DataArguments):
    """The split without corrupt images, and how many there were; a stream tells of each as it comes."""

    def readable(row: dict) -> bool:
        try:
            open_image(row["image"], f"an image of {name}")
        except ValueError as error:
            if arguments.streaming:
                _say(f"skipped: {error}")
            return False
        return True

    if isinstance(split, IterableDataset):
        return split.filter(readable)
    kept = split.filter(readable, num_proc=arguments.preprocessing_workers, desc=f"reading {name} images")
    if len(kept) < len(split):
        _say(f"{len(split) - len(kept)} of {len(split)} {name} images are corrupt and left out")
    return kept


def _first_classes(split: Dataset | IterableDataset, count: int) -> Dataset | IterableDataset:
    names = split.features["label"].names
    if count > len(names):
        raise ValueError(
            f"classes={count} is more than the {len(names)} classes of the dataset; use at most that many"
        )
    if isinstance(split, IterableDataset):
        kept = split.filter(lambda row: 0 <= row["label"] < count)
        return kept.cast_column("label", ClassLabel(names=names[:count]))
    labels = _labels(split)
    kept = split.select(np.flatnonzero((labels >= 0) & (labels < count)))
    # Not a cast, which would write all images again; a selection has an info of its own.
    kept.info.features = Features({**kept.features, "label": ClassLabel(names=names[:count])})
    return kept


def _subsample(train: Dataset | IterableDataset, arguments: DataArguments) -> Dataset | IterableDataset:
    if arguments.samples_per_class is not None:
        labels, names, wanted = _labels(train), train.features["label"].names, arguments.samples_per_class
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


def _cut(train: Dataset | IterableDataset, name: str, seed: int):
    """A class-balanced 20th is cut out, at least one image of each class; of a stream, about every 20th image."""
    if isinstance(train, IterableDataset):
        rest = {"validation": 7, "test": 8}[name]  # two cuts of one stream must differ
        return train.filter(lambda row: _checksum(row) % 20 != rest), train.filter(
            lambda row: _checksum(row) % 20 == rest
        )
    size = max(len(train.features["label"].names), len(train) // CUT_SHARE)
    return _balanced_split(train, len(train) - size, seed, f"the {name} images, which are cut out of train,")


def _balanced_split(images: Dataset, first: int, seed: int, what: str) -> tuple[Dataset, Dataset]:
    """The first so many of the shuffled images and the rest, the classes in the same shares in both."""
    try:
        parts = images.train_test_split(
            train_size=first, test_size=len(images) - first, stratify_by_column="label", seed=seed
        )
    except ValueError as error:
        counts = np.bincount(_labels(images), minlength=len(images.features["label"].names))
        raise ValueError(
            f"{what} leaves a part of {len(images)} images without some class (the rarest of {len(counts)} classes has "
            f"{counts.min()} images: {error}); use more images or another share"
        ) from error
    for part in parts.values():
        _check_classes(part, f"{what} part:")
    return parts["train"], parts["test"]


def _check_labels(split: Dataset | IterableDataset, name: str) -> None:
    _first(split, name)
    if isinstance(split, IterableDataset):
        return
    if unlabelled := int((_labels(split) < 0).sum()):
        raise ValueError(
            f"{unlabelled} of {len(split)} {name} images have no label; use another --{name}_split, as in "
            "--test_split validation"
        )


def _check_classes(split: Dataset | IterableDataset, name: str) -> None:
    if isinstance(split, IterableDataset):
        return
    names = split.features["label"].names
    counts = np.bincount(_labels(split), minlength=len(names))
    if missing := [names[number] for number in np.flatnonzero(counts == 0)]:
        raise ValueError(
            f"{name} has no image of {len(missing)} of {len(names)} classes: {missing[:10]}; add some, use fewer --classes, "
            "or cut this split out of train (--validation_split cut, --test_split cut)"
        )


def _labels(split: Dataset) -> np.ndarray:
    return np.array([-1 if label is None else label for label in split["label"][:]], dtype=np.int64)


def _first(split: Dataset | IterableDataset, name: str) -> dict:
    row = next(iter(split), None)
    if row is None:
        raise ValueError(f"there are no {name} images; give at least one of each class")
    return row


def _checksum(row: dict) -> int:
    """A number of the image's content, or of its folder and name where the content is not at hand."""
    cell = row["image"] or {"bytes": b"", "path": None}  # a missing image is refused, or left out, where it is decoded
    if cell["bytes"] is not None:
        return zlib.crc32(cell["bytes"])
    inside = cell["path"].split("::")[0]  # of an archive: zip://folder/name::archive
    return zlib.crc32("/".join(Path(inside).parts[-2:]).encode())


@contextmanager
def _no_bars(quiet: bool) -> Iterator[None]:
    """Without the progress bars of datasets, where there is nothing to wait for."""
    showed = is_progress_bar_enabled()
    if quiet:
        disable_progress_bar()
    try:
        yield
    finally:
        if showed:
            enable_progress_bar()


def _say(text: str) -> None:
    """Prints on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(text)
