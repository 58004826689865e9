"""Where images come from: a Hub dataset, a local folder, parquet files, or the digits inside scikit-learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from PIL import Image as PILImage

from .settings import CUT, ImageArguments


USUAL_NAMES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def read_splits(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    """The splits of the source that will be used, with the columns that it has; those to be cut are not among them.

    Raises:
        ValueError: The source cannot be read, or it lacks a split.
    """
    with _no_bars(arguments.dataset is None or Path(arguments.dataset).exists()):
        if arguments.train_file:
            return _read_files(arguments)
        found = _digits() if arguments.dataset is None else _read_dataset(arguments)
    names = _split_names(arguments, found)
    splits = {name: found[split] for name, split in names.items() if split != CUT}
    if arguments.streaming:
        return {n: s if isinstance(s, IterableDataset) else s.to_iterable_dataset() for n, s in splits.items()}
    return splits


def _split_names(arguments: ImageArguments, found: dict) -> dict[str, str]:
    """Which of the splits found are "train", "validation" and "test", given or by their usual names; else `CUT`."""
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
    return wanted


def _read_files(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    files = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    files = {name: file for name, file in files.items() if file is not None}
    for name, file in files.items():
        if not Path(file).is_file() or Path(file).suffix != ".parquet":
            raise ValueError(f"{name}_file={file} must be an existing .parquet file; folders go to --dataset")
    # One by one: the files of one call must have the same columns, and the error would be that of the parquet reader.
    return {name: _read_file(name, file, arguments) for name, file in files.items()}


def _read_file(name: str, file: str, arguments: ImageArguments) -> Dataset | IterableDataset:
    try:
        return load_dataset("parquet", data_files={name: file}, split=name, streaming=arguments.streaming)
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"{name}_file={file} has no images that could be read ({error}); give at least one"
        ) from error


def _read_dataset(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    folder = Path(arguments.dataset)
    if (folder / "dataset_dict.json").is_file():
        return dict(load_from_disk(arguments.dataset))
    if (folder / "state.json").is_file():
        return {"train": load_from_disk(arguments.dataset)}
    # A relative name may be that of a builder of datasets, such as json, which would come before the folder.
    source = str(folder.absolute()) if folder.is_dir() else arguments.dataset
    try:
        return dict(load_dataset(source, arguments.dataset_config, streaming=arguments.streaming))
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
