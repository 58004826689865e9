"""Where images come from: a Hub dataset, a local folder, parquet files, or the digits inside scikit-learn."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from PIL import Image as PILImage

from ...errors import check_extra
from ...messages import draws_bars
from ..files import (
    ROLES,
    by_split,
    escaped,
    expand,
    files_below,
    load_whole,
    reason,
    refuse_shared,
    say,
    say_copies,
    say_left_out,
    suffix_of,
    unwrapped,
    usual,
)
from .settings import CUT, ImageArguments


# Endings of other files that hold images -> the builder of datasets that reads them.
BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
PICTURES = frozenset(ImageFolder.EXTENSIONS)


def read_splits(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    """The splits of the source that will be used, with the columns that it has; those to be cut are not among them.

    Raises:
        ValueError: The source cannot be read, or it lacks a split.
    """
    with _no_bars(arguments.dataset is None or Path(arguments.dataset).expanduser().exists()):
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
    given = {"train": arguments.train_split, "validation": arguments.validation_split, "test": arguments.test_split}
    small = {name.lower(): name for name in found}
    wanted = {name: small.get(split.lower(), split) if split else None for name, split in given.items()}
    if given["train"] == "train" and "train" not in found:
        wanted["train"] = usual(found, "train") or "train"
    for name, split in wanted.items():
        if split not in (None, CUT) and split not in found:
            raise ValueError(f"the dataset has splits {sorted(found)}, none is {split!r}; use --{name}_split")
    for name in ("validation", "test"):
        if wanted[name] is None:
            wanted[name] = usual(found, name) or CUT
    if arguments.validation_split is None and wanted["validation"] in (wanted["test"], wanted["train"]):
        wanted["validation"] = CUT  # as with ImageNet, whose validation images are what everyone tests on
    taken = [split for split in wanted.values() if split != CUT]
    if len(set(taken)) < len(taken):
        raise ValueError(
            f"train, validation and test must be different splits, not {wanted}; use 'cut' for one of them"
        )
    if unused := [split for split in found if split not in taken]:
        say(f"the splits {unused} of the dataset are not used")
    return wanted


def _read_files(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    given = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    try:
        files = {name: expand(name, file, [".parquet"]) for name, file in given.items() if file is not None}
    except ValueError as error:
        raise ValueError(f"{error}; class folders of images go to --dataset") from error
    refuse_shared(files)
    say_copies(files)
    # One by one: the files of one call must have the same columns, and the error would be that of the parquet reader.
    return {name: _read_file(name, paths, given[name], arguments) for name, paths in files.items()}


def _read_file(name: str, files: list[Path], given: str | list[str], arguments: ImageArguments):
    try:
        return load_dataset("parquet", data_files={name: escaped(files)}, split=name, streaming=arguments.streaming)
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"{name}_file={given} has no images that could be read ({reason(error)}); give at least one"
        ) from error


def _read_dataset(arguments: ImageArguments) -> dict[str, Dataset | IterableDataset]:
    found = load_whole(arguments.dataset, arguments.dataset_config, arguments.streaming)
    if found is not None:
        return found
    builder, files = _files_of_splits(Path(arguments.dataset).expanduser(), arguments)
    try:
        return dict(load_dataset(builder, data_files=files, streaming=arguments.streaming))
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise ValueError(f"dataset {arguments.dataset!r} could not be loaded ({reason(error)}); repair it") from error


def _files_of_splits(folder: Path, arguments: ImageArguments) -> tuple[str, dict[str, list[str]]]:
    """The builder of datasets that reads a folder, and the files of each split as it takes them."""
    names = files_below(folder, PICTURES | BUILDERS.keys() | {".zip"})
    kinds = Counter("pictures" if suffix_of(name) in PICTURES else suffix_of(name) for name in names)
    if len(kinds) != 1 or ".zip" in kinds:
        what = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        raise ValueError(
            f"dataset {str(folder)!r} could not be loaded: it holds {what or 'no images'}; it must hold class folders of "
            f"images, or files of one kind of {', '.join(BUILDERS)}, and no archives that are to be unpacked first"
        )
    (kind,) = kinds
    root, names = unwrapped(folder, names)
    splits, rest = by_split(names, class_folders=kind == "pictures")
    say_left_out(rest if splits else [], folder, "of no split by their name or first folder")
    if kind != "pictures":
        splits = splits or {"train": names}
        return BUILDERS[kind], {name: escaped(root / file for file in files) for name, files in splits.items()}
    if not splits:
        return "imagefolder", {"train": _patterns(root, [folder], names)}
    folders: dict[str, set[Path]] = {}
    for name, files in splits.items():
        folders.setdefault(ROLES.get(name, name), set()).update(root / PurePosixPath(file).parent for file in files)
    refuse_shared(folders)  # a class folder may be a link to one elsewhere, but not into another split
    tables = files_below(folder, {suffix_of(name) for name in ImageFolder.METADATA_FILENAMES})
    tables = [name for name in tables if PurePosixPath(name).name in ImageFolder.METADATA_FILENAMES]
    if beside := [name for name in tables if (folder / name).parent in (folder, root)]:
        # datasets would put all of its rows into each split.
        raise ValueError(
            f"{beside[0]} of {folder} lies beside the folders of the splits; put one into each, with names relative to it"
        )
    if not tables:
        splits = _labelled(splits, root, arguments)
    tops = {name: sorted({file.split("/")[0] for file in files}) for name, files in splits.items()}
    return "imagefolder", {
        name: _patterns(root, [root / top for top in folders], splits[name]) for name, folders in tops.items()
    }


def _patterns(root: Path, tops: list[Path], files: list[str]) -> list[str]:
    """What `datasets` is to read: whole folders, since it looks up every single name that it is given.

    It does not go into a folder that is a link, so that these are named, too.
    """
    below = {root / folder for file in files for folder in PurePosixPath(file).parents}
    linked = sorted(folder for folder in below if folder.is_symlink() and folder not in tops)
    return [f"{pattern}/**" for pattern in escaped([*tops, *linked])]


def _labelled(splits: dict[str, list[str]], root: Path, arguments: ImageArguments) -> dict[str, list[str]]:
    """The splits without those whose images are in no class folder of the training images', and so have no labels."""
    named = arguments.train_split.lower()
    train = named if named in splits else usual(splits, "train")
    if train is None:
        return splits
    classes = {PurePosixPath(file).parent.name for file in splits[train] if file.count("/") > 1}
    if len(classes) < 2:
        raise ValueError(
            f"the {train} images of {root} must be in class folders, at least two, as {train}/cat/1.png and "
            f"{train}/dog/1.png"
        )
    # Training images first: datasets looks for labels split by split.
    splits = {train: splits[train], **splits}
    kept, asked = {}, {(split or "").lower() for split in (arguments.validation_split, arguments.test_split)}
    for name, files in splits.items():
        folders = {PurePosixPath(file).parent.name if file.count("/") > 1 else None for file in files}
        if name == train or len(folders) > 1 or folders <= classes:
            kept[name] = files
        elif name in asked:
            raise ValueError(
                f"the {name} images of {root} are not in class folders, so they have no labels; sort them into "
                f"{sorted(classes)[:5]}, or use another split, as in --{ROLES[name]}_split cut"
            )
        else:
            say(
                f"left out of {root}: the {len(files)} images of {name}, which are not in class folders and so have no "
                "labels"
            )
    return kept


def _digits() -> dict[str, Dataset]:
    check_extra("vision", "sklearn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = [PILImage.fromarray((image * 255 / 16).round().astype(np.uint8)) for image in digits.images]
    features = Features({"image": Image(), "label": ClassLabel(names=[str(n) for n in range(10)])})
    return {"train": Dataset.from_dict({"image": images, "label": digits.target.tolist()}, features=features)}


@contextmanager
def _no_bars(quiet: bool) -> Iterator[None]:
    """Without the progress bars of datasets, where there is nothing to wait for."""
    showed = is_progress_bar_enabled()
    if quiet or not draws_bars():
        disable_progress_bar()
    try:
        yield
    finally:
        if showed:
            enable_progress_bar()
