"""Which local files a name means, and which split each of them is of.

`datasets` finds split names in any part of a path, so that a class folder called "test" is a test split to it. Here only
the first folder and the whole stem of a file name a split.
"""

import filecmp
import glob
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from datasets import Dataset, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError


# What the splits are usually called, the commonest name first; capitals do not matter.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ROLES = {name: role for role, names in SPLITS.items() for name in names}
SHARD = re.compile(r"(.+?)(-\d{5}-of-\d{5}(-[0-9a-f]{16})?|[-_.]\d+)")  # train-00000-of-00003, train_1
NOT_DATA = {"readme.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
NAMED = 3  # files that a message names


def one_or_many(given: str | list[str] | None) -> str | list[str] | None:
    """The files of an option as they are kept: None, the name alone, or several names."""
    if isinstance(given, str):
        return given
    return given[0] if given and len(given) == 1 else given or None


def in_words(given: str | list[str]) -> str:
    """The names of files or of a folder, without the folders of this machine."""
    names = [Path(name).expanduser().resolve().name for name in ([given] if isinstance(given, str) else given)]
    return ", ".join(names) if len(names) <= NAMED else f"{names[0]} and {len(names) - 1} more"


def suffix_of(name: str | Path) -> str:
    """The ending in small letters, that of the content in front of .gz included: ".txt", ".txt.gz"."""
    path = Path(str(name).lower())
    return path.suffix if path.suffix != ".gz" else Path(path.stem).suffix + ".gz"


def refuse_url(option: str, name: str) -> None:
    """Refuses an address on the network.

    Raises:
        ValueError: The name is an address on the network.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        raise ValueError(
            f"{option}={name} is a URL; download it and give the file, or give a dataset on the Hub as --dataset owner/name"
        )


def expand(role: str, given: str | list[str], suffixes: Collection[str]) -> list[Path]:
    """The files that an option names: files, folders, patterns such as `texts/*.txt`, `~`.

    Args:
        role: "train", "validation" or "test".
        given: One name or several.
        suffixes: Allowed endings, as `suffix_of` gives them.

    Raises:
        ValueError: One is a URL, or no file, or has another ending; a folder holds another split, too.
    """
    found = [file for name in ([given] if isinstance(given, str) else given) for file in _named(role, name, suffixes)]
    return list(dict.fromkeys(found))


def _named(role: str, name: str, suffixes: Collection[str]) -> list[Path]:
    option = f"{role}_file"
    refuse_url(option, name)
    path, endings = Path(name).expanduser(), ", ".join(suffixes)
    if path.is_dir():
        root, names = unwrapped(path, files_below(path, suffixes))
        if not names:
            raise ValueError(f"{option}={name} is a folder without files ending in {endings}")
        splits, _ = by_split(names)
        if other := sorted(file for split, files in splits.items() if ROLES.get(split) != role for file in files):
            raise ValueError(
                f"{option}={name} holds {_some(other)}, of another split by name; give the folder as --dataset, or name "
                "the files"
            )
        return [root / file for file in names]
    if path.is_file():
        if suffix_of(path) in suffixes:
            return [path]
    elif glob.has_magic(str(path)):
        if matches := [Path(file) for file in sorted(glob.glob(str(path), recursive=True))]:
            if files := [file for file in matches if file.is_file() and suffix_of(file) in suffixes]:
                return files
    raise ValueError(f"{option}={name} must be an existing file ending in {endings}, or a folder or a pattern of such")


def refuse_shared(files: Mapping[str, Iterable[Path]]) -> None:
    """Refuses a file in two splits, by its own name or by that of a link.

    Args:
        files: Split -> its files.

    Raises:
        ValueError: A file is in two splits.
    """
    seen: dict[Path, str] = {}
    for split, paths in files.items():
        for path in paths:
            if (other := seen.setdefault(path.resolve(), split)) != split:
                raise ValueError(f"{path} is in {other} and in {split}; a file can be of one split only")


def say_copies(files: Mapping[str, Iterable[Path]]) -> None:
    """Says which files of two splits have the same content, so that a score would be of what was trained on.

    Args:
        files: Split -> its files; those of one size are read.
    """
    distinct: dict[int, list[tuple[str, Path]]] = {}
    for split, paths in files.items():
        for path in paths:
            known = distinct.setdefault(path.stat().st_size, [])
            same = next((one for one in known if filecmp.cmp(path, one[1], shallow=False)), None)
            if same is None:
                known.append((split, path))
            elif same[0] != split and path.stat().st_size > 0:
                say(f"{path.name} of {split} has the content of {same[1].name} of {same[0]}: scores on it mean little")


def files_below(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Files with these endings, relative to the folder and in order, without hidden ones and those of `__MACOSX` and the like.

    Args:
        folder: The folder.
        suffixes: Endings, as `suffix_of` gives them.
    """
    found, start = [], len(str(folder)) + (0 if str(folder).endswith(os.sep) else 1)
    above: dict[str, frozenset[str]] = {}  # a place -> what it and the folders that it lies in really are
    for place, folders, names in os.walk(folder, followlinks=True):
        real, before = os.path.realpath(place), above.get(os.path.dirname(place), frozenset())
        if real in before:  # a link to a folder above would repeat everything; one to another folder is a folder
            folders.clear()
            continue
        above[place] = before | {real}
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        names = [name for name in names if not name.startswith((".", "__")) and name.lower() not in NOT_DATA]
        found += [os.path.join(place, name)[start:] for name in names if suffix_of(name) in suffixes]
    return sorted(name.replace(os.sep, "/") for name in found)


def unwrapped(folder: Path, names: Sequence[str]) -> tuple[Path, list[str]]:
    """Goes down while everything is in one folder, as in many archives, but not past a split: that folder, and names in it."""
    parts = [name.split("/") for name in names]
    depth = 0
    while names and all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        if parts[0][depth].lower() in ROLES:
            break
        depth += 1
    return folder.joinpath(*(parts[0][:depth] if names else ())), ["/".join(part[depth:]) for part in parts]


def by_split(names: Sequence[str], class_folders: bool = False) -> tuple[dict[str, list[str]], list[str]]:
    """Name of a split in small letters -> its files; and those that are of none.

    Args:
        names: Files, relative to the folder of the data set.
        class_folders: Whether the folder of a file is its class, so that its own name says nothing.

    Raises:
        ValueError: A folder and the file in it name different splits.
    """
    parts = [name.split("/") for name in names]
    first = {part[0].lower() for part in parts if len(part) > 1}
    # Pictures right in folders of which one has another name: a class may be called "train", too.
    classes_only = class_folders and max(map(len, parts), default=0) == 2 and not first <= ROLES.keys()
    splits, rest = {}, []
    for name, part in zip(names, parts, strict=True):
        folder = part[0].lower() if len(part) > 1 and part[0].lower() in ROLES and not classes_only else None
        stem = None if class_folders else _split_of_stem(part[-1])
        if folder and stem in ROLES and ROLES[folder] != ROLES[stem]:
            raise ValueError(
                f"{name} is of two splits, {folder!r} by its folder and {stem!r} by its name; rename one of them"
            )
        split = folder or stem
        if split is None:
            rest.append(name)
        else:
            splits.setdefault(split, []).append(name)
    return (splits, rest) if splits.keys() & ROLES.keys() else ({}, list(names))


def _split_of_stem(file: str) -> str | None:
    stem = file.lower().removesuffix(".gz").rpartition(".")[0]
    shard = SHARD.fullmatch(stem)
    if shard and shard[1] not in ROLES and "-of-" not in shard[2]:
        return None  # chapter-1 is no split, extra-00000-of-00002 is one of a data set that names others
    name = shard[1] if shard else stem
    return name if name in ROLES or shard else None


def usual(found: Iterable[str], role: str) -> str | None:
    """The split found that is usually called so, the commonest name first."""
    small = {name.lower(): name for name in found}
    return next((small[name] for name in SPLITS[role] if name in small), None)


def load_whole(dataset: str, config: str | None, streaming: bool) -> dict[str, Dataset | IterableDataset] | None:
    """The splits of a Hub data set, of what `save_to_disk` left, or of a folder that says itself which files are which.

    Returns:
        None for a folder whose splits are in the names of its files.

    Raises:
        ValueError: It is a URL or a file, or cannot be loaded.
    """
    refuse_url("dataset", dataset)
    folder = Path(dataset).expanduser()
    if folder.is_file():
        what = "an archive; unpack it and give the folder" if folder.name.lower().endswith(ARCHIVES) else (
            "a file; give it as --train_file, or its folder"
        )  # fmt: skip
        raise ValueError(f"dataset={dataset} is {what}")
    saved = (folder / "dataset_dict.json").is_file(), (folder / "state.json").is_file()
    if folder.is_dir() and not any(saved) and not _names_configurations(folder):
        if config is not None:
            raise ValueError(
                f"dataset_config={config}: {dataset} has no README.md that names configurations; leave it out"
            )
        return None
    # A relative name may be that of a builder of datasets, such as json, which would come before the folder.
    source = str(folder.absolute()) if folder.is_dir() else dataset
    try:
        if any(saved):
            found = load_from_disk(source) if saved[0] else {"train": load_from_disk(source)}
        else:
            found = load_dataset(source, config, streaming=streaming)
    except (OSError, ConnectionError, ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"dataset {dataset!r} could not be loaded ({reason(error)}); check the name and the network, or "
            "give a local folder, or files with --train_file"
        ) from error
    if streaming:
        return {n: s if isinstance(s, IterableDataset) else s.to_iterable_dataset() for n, s in found.items()}
    return dict(found)


def _names_configurations(folder: Path) -> bool:
    """Whether its README.md says, in the way of the Hub, which files are which."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    header = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        values = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError:
        return False
    return isinstance(values, dict) and "configs" in values


def escaped(files: Iterable[Path]) -> list[str]:
    """Paths for `datasets`, which takes them for patterns."""
    return [glob.escape(str(file.absolute())) for file in files]


def reason(error: Exception) -> str:
    """What a builder of datasets says of a file, as one line."""
    return " ".join(str(error.__cause__ or error).split())


def say(text: str) -> None:
    """Prints on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def say_left_out(files: Sequence[str], folder: str | Path, why: str) -> None:
    """Says which files are left out, if any."""
    if files:
        say(f"left out of {folder}, {why}: {_some(files)}")


def _some(files: Sequence[str]) -> str:
    number = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + number
