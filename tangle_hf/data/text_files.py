"""Text from files of any kind, folders and datasets, as rows that are documents or lines of one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError

from .column_kinds import holds, is_text
from .files import (
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
from .text_settings import CLOSED, DataArguments


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of file.

    Args:
        builder: What reads it, a builder of the library `datasets`.
        options: The builder's options.
    """

    builder: str
    options: Mapping[str, Any] = field(default_factory=dict)


# Line by line, with the newlines: nothing of the text is lost, and no file is held in memory as one string.
TEXT = Kind("text", {"keep_linebreaks": True, "encoding": "utf-8-sig"})
JSON = Kind("json")
CSV = Kind("csv", {"keep_default_na": False, "na_values": [""]})  # the words "null" and "NA" are text
KINDS = {".txt": TEXT, ".md": TEXT, ".json": JSON, ".jsonl": JSON, ".csv": CSV}  # by the end of a file's name
KINDS |= {f"{suffix}.gz": kind for suffix, kind in KINDS.items()}
KINDS |= {".parquet": Kind("parquet"), ".arrow": Kind("arrow")}


def from_files(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    given = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    files = {name: expand(name, file, KINDS) for name, file in given.items() if file is not None}
    refuse_shared(files)
    say_copies(files)
    return {name: _read(name, paths, f"{name}_file={given[name]}", arguments) for name, paths in files.items()}


def from_dataset(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    dataset = arguments.dataset
    found = load_whole(dataset, arguments.dataset_config, arguments.streaming)
    if found is None:
        return _from_folder(Path(dataset).expanduser(), arguments)
    names = _chosen(found, dataset)
    where = {name: f"the {split} split of dataset {dataset!r}" for name, split in names.items()}
    return {
        name: _with_ends(_only_text(found[split], where[name], arguments), True, arguments)
        for name, split in names.items()
    }


def _from_folder(folder: Path, arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    root, names = unwrapped(folder, files_below(folder, KINDS))
    if not names:
        raise ValueError(f"dataset {str(folder)!r} could not be loaded: it holds no file ending in {', '.join(KINDS)}")
    splits, rest = by_split(names)
    say_left_out(rest if splits else [], folder, "of no split by their name or first folder")
    splits = splits or {"train": names}
    files = {
        name: [root / file for file in splits[split]] for name, split in _chosen(splits, arguments.dataset).items()
    }
    refuse_shared(files)
    say_copies(files)
    return {
        name: _read(name, paths, f"the {name} split of dataset {arguments.dataset!r}", arguments, mixed=True)
        for name, paths in files.items()
    }


def _chosen(found: Collection[str], dataset: str) -> dict[str, str]:
    """Which of the splits found are "train", "validation" and "test", and says which are not used."""
    names = {role: split for role in ("train", "validation", "test") if (split := usual(found, role)) is not None}
    if "train" not in names:
        raise ValueError(
            f"dataset {dataset!r} has splits {list(found)}, none is train; call its files or its folder train"
        )
    if unused := [split for split in found if split not in names.values()]:
        say(f"dataset {dataset}: the splits {unused} are not used")
    return names


def _read(
    name: str, files: list[Path], where: str, arguments: DataArguments, mixed: bool = False
) -> Dataset | IterableDataset:
    """The text of files of any kinds; in a mixed folder, tables without the column beside text files are left out."""
    files = [file for file in files if file.stat().st_size > 0]  # each builder has an error of its own for these
    if not files:
        raise ValueError(f"{where} is empty; give at least one text")
    kinds: dict[Kind, list[Path]] = {}
    for file in files:
        kinds.setdefault(KINDS[suffix_of(file)], []).append(file)
    parts = []
    for kind, paths in kinds.items():
        some = ", ".join(path.name for path in paths[:3])
        source = where if len(kinds) == 1 else f"{where} ({kind.builder}: {some})"
        try:
            part = load_dataset(
                kind.builder,
                data_files={name: escaped(paths)},
                split=name,
                streaming=arguments.streaming,
                **kind.options,
            )
            columns = _columns(part)
        except (ValueError, DatasetGenerationError) as error:
            if len(paths) > 1 and not arguments.streaming:  # tables of one call must have the same columns
                parts += [_read(name, [path], f"{where} ({path.name})", arguments) for path in paths]
                continue
            raise ValueError(f"{source} could not be read ({reason(error)}); repair it") from error
        if mixed and TEXT in kinds and kind is not TEXT and arguments.text_column not in columns:
            column = f"without a column {arguments.text_column!r}"
            say_left_out([path.name for path in paths], where, column)
            continue
        parts.append(_with_ends(_only_text(part, source, arguments), kind is not TEXT, arguments))
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _columns(part: Dataset | IterableDataset) -> list[str]:
    return part.column_names or list(next(iter(part), {}))  # some streams know them with the first row only


def _only_text(part: Dataset | IterableDataset, source: str, arguments: DataArguments) -> Dataset | IterableDataset:
    """The text column alone. A missing text is refused: here, or in a stream when its row is read."""
    column = arguments.text_column
    try:
        columns = _columns(part)
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(f"{source} could not be read ({reason(error)}); repair it") from error
    if not columns:
        raise ValueError(f"{source} is empty; give at least one text")
    if column not in columns:
        raise ValueError(f"{source} has columns {columns}, none is {column!r}; use --text_column")
    kind = (part.features or {}).get(column, Value("string"))
    texts = f"{source}: column {column!r} holds {{}}, where each row should be one text; "
    advice = "choose another with --text_column, or write the text of each row into one"
    if not is_text(kind) and kind != Value("null"):
        raise ValueError(texts.format(holds(kind)) + advice)
    text = part.select_columns([column])
    null = f"a null in column {column!r}, where a text should be; remove such rows"

    def has_text(row: dict) -> bool:
        if row[column] is None:
            raise ValueError(f"{source} has {null}")
        if not isinstance(row[column], str):
            raise ValueError(texts.format(f"a {type(row[column]).__name__}") + advice)
        return True

    if isinstance(text, IterableDataset):
        return text.filter(has_text)
    if missing := text.data.column(column).null_count:
        raise ValueError(f"{source} has {missing} of {len(text)} rows with {null}")
    return text


def _with_ends(text: Dataset | IterableDataset, closed: bool, arguments: DataArguments):
    """Adds the column that says whether rows are documents, and gives all texts one type, however they were stored."""
    column = arguments.text_column
    if isinstance(text, IterableDataset):
        features = Features({column: Value("string"), CLOSED: Value("bool")})
        return text.map(lambda row: {**row, CLOSED: closed}, features=features)
    if text.features[column] != Value("string"):
        text = text.cast_column(column, Value("string"))
    return text.add_column(CLOSED, np.full(len(text), closed))


def documents(text: Dataset) -> int:
    """How many rows are documents."""
    return pc.sum(text.with_format("arrow")[CLOSED][:]).as_py() or 0


def count(text: Dataset | IterableDataset) -> str:
    """How many documents and lines a text has, in words."""
    if isinstance(text, IterableDataset):
        return "a stream"
    closed = documents(text)
    counts = {"documents": closed, "lines": len(text) - closed}
    return " and ".join(
        f"{number:,} {what if number != 1 else what[:-1]}" for what, number in counts.items() if number
    )
