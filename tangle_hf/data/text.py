"""Text for the language recipes: what is trained on, validated on and tested on, and the two parts of a search."""

import zlib
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

from datasets import Dataset, IterableDataset
from datasets.utils.logging import disable_progress_bar

from ..messages import draws_bars
from .files import say
from .streams import cut_stream, weight_twentieths
from .text_files import count, from_dataset, from_files
from .text_settings import CLOSED, DataArguments


def load_texts(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    """The texts of "train", "validation" and "test"; a missing split is cut out of train, the last 20th.

    The column `end_of_text` says which rows are documents; the others are lines of one text. Prints how many there are.

    Raises:
        ValueError: A file or dataset cannot be read or is empty, it has no such text column, or nulls or something else
            than text in it; a file is of two splits.
    """
    if arguments.dataset is None and arguments.train_file is None:
        splits = _embedded(arguments)
    else:
        if not draws_bars() or arguments.train_file or Path(arguments.dataset).expanduser().exists():
            disable_progress_bar()
        splits = from_files(arguments) if arguments.train_file else from_dataset(arguments)
    for name in ("validation", "test"):
        if name not in splits:
            splits["train"], splits[name] = _cut(splits["train"], name, arguments.text_column)
    counts = "; ".join(f"{name}: {count(splits[name])}" for name in ("train", "validation", "test"))
    say(counts if arguments.dataset or arguments.train_file else f"{counts} (the documentation inside Python)")
    return splits


def split_for_search(blocks: Dataset | IterableDataset, train_portion: float, seed: int):
    """Blocks for the weights and blocks for the architecture, without overlap; streams of lines are split by index, 20 by 20.

    Streams of documents are split before they are blocks (`text_examples.py`), so that they do not overlap on several processes
    either, which count their own blocks. Of lines every 20th would be missing between its neighbours.

    Raises:
        ValueError: One part would be empty.
    """
    if isinstance(blocks, IterableDataset):
        weights = weight_twentieths(train_portion)
        parts = (lambda _, index: index % 20 < weights), (lambda _, index: index % 20 >= weights)
        plain = blocks.with_format(None)  # a filter of a formatted stream would format it twice
        return tuple(plain.filter(part, with_indices=True).with_format("torch") for part in parts)
    weights = round(len(blocks) * train_portion)
    if not 0 < weights < len(blocks):
        raise ValueError(f"train_portion={train_portion} of {len(blocks)} blocks leaves one part empty; use more text")
    shuffled = blocks.shuffle(seed=seed)
    return shuffled.select(range(weights)), shuffled.select(range(weights, len(blocks)))


def checksum(column: str, row: dict) -> int:
    """A whole number of a document, by which parts of a stream are told apart."""
    return zlib.crc32(row[column].encode())


def _embedded(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    parts = {"train": [], "validation": [], "test": []}
    for number, topic in enumerate(sorted(topics)):
        parts[{8: "validation", 9: "test"}.get(number % 10, "train")].append(topics[topic])
    splits = {
        name: Dataset.from_dict({arguments.text_column: texts, CLOSED: [True] * len(texts)})
        for name, texts in parts.items()
    }
    return {name: part.to_iterable_dataset() for name, part in splits.items()} if arguments.streaming else splits


def _cut(train: Dataset | IterableDataset, name: str, column: str):
    """The last 20th is cut out; of a stream, whose end is not known, about every 20th example."""
    if isinstance(train, IterableDataset):
        return cut_stream(train, name, partial(checksum, column))
    kept = len(train) - max(1, len(train) // 20)
    if kept == 0:
        raise ValueError(
            "the training data is one example, nothing can be cut out of it; give --validation_file and --test_file"
        )
    return train.select(range(kept)), train.select(range(kept, len(train)))
