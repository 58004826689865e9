"""Text for the language recipes: load it, tokenise it, cut it into blocks, split it for the two levels of the search."""

import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .column_kinds import holds, is_text
from .files import (
    by_split,
    escaped,
    expand,
    files_below,
    in_words,
    load_whole,
    one_or_many,
    reason,
    refuse_shared,
    say,
    say_copies,
    say_left_out,
    suffix_of,
    unwrapped,
    usual,
)
from .streams import cut_stream, weight_twentieths


END_OF_TEXT = "<|endoftext|>"
CLOSED = "end_of_text"  # column: whether a row is a document, which an end-of-text token closes, or a line of one
BUILDERS = {".txt": "text", ".md": "text", ".json": "json", ".jsonl": "json", ".csv": "csv"}
BUILDERS |= {f"{suffix}.gz": builder for suffix, builder in BUILDERS.items()} | {
    ".parquet": "parquet",
    ".arrow": "arrow",
}
# Line by line, with the newlines: nothing of the text is lost, and no file is held in memory as one string.
OPTIONS = {
    "text": {"keep_linebreaks": True, "encoding": "utf-8-sig"},
    "csv": {"keep_default_na": False, "na_values": [""]},  # the words "null" and "NA" are text
}


@dataclass
class DataArguments:
    """Which text, which tokenizer, which block length. With nothing given: the documentation texts inside Python itself.

    Raises:
        ValueError: A size is out of its range, or both a dataset and files are given.
    """

    _argument_group_name = "data"

    dataset: str | None = field(
        default=None,
        metadata={"help": "Hub name, or a local folder whose first folders or files are called train, validation (valid, "
                          "val, dev) and test; all is train otherwise"},
    )  # fmt: skip
    dataset_config: str | None = field(default=None, metadata={"help": "configuration of that dataset"})
    train_file: list[str] | None = field(
        default=None,
        metadata={"help": "training text: files, folders or patterns of .txt, .md, .json, .jsonl, .csv (or these with "
                          ".gz), .parquet, .arrow. A text file is one text, each row of the others is one"},
    )  # fmt: skip
    validation_file: list[str] | None = field(
        default=None, metadata={"help": "validation text; default: cut from train"}
    )
    test_file: list[str] | None = field(default=None, metadata={"help": "test text; default: cut from train"})
    text_column: str = field(default="text", metadata={"help": "column that holds the text"})
    streaming: bool = field(
        default=False, metadata={"help": "read the dataset as a stream, without downloading it all"}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "tokenizer name or folder; default: a byte-level BPE trained on the text"}
    )
    vocab_size: int = field(
        default=2048, metadata={"help": "size of the trained BPE, or of the model's vocabulary (0: the tokenizer's)"}
    )
    block_size: int = field(default=128, metadata={"help": "tokens in a training example"})
    preprocessing_workers: int | None = field(default=None, metadata={"help": "processes that tokenise"})

    def __post_init__(self):
        for name in ("train_file", "validation_file", "test_file"):
            setattr(self, name, one_or_many(getattr(self, name)))
        if self.dataset and self.train_file:
            raise ValueError(f"dataset={self.dataset} and train_file={self.train_file} are both given; choose one")
        if not self.train_file and (self.validation_file or self.test_file):
            raise ValueError("validation_file and test_file need a train_file")
        if self.preprocessing_workers is not None and self.preprocessing_workers < 0:
            raise ValueError(f"preprocessing_workers={self.preprocessing_workers} must not be negative")
        if self.text_column == CLOSED:
            raise ValueError(f"text_column={CLOSED} is a name that is used for something else here; rename the column")
        if self.block_size < 2:
            raise ValueError(f"block_size={self.block_size} must be at least 2: the last token is only predicted")
        if self.vocab_size < 0 or (self.tokenizer is None and self.vocab_size < 257):
            raise ValueError(f"vocab_size={self.vocab_size} must be at least 257: all bytes and {END_OF_TEXT}")


def describe(arguments: DataArguments) -> str:
    """What the text is, in a few words and without the folders of this machine."""
    if arguments.train_file is not None:
        return f"the text of {in_words(arguments.train_file)}"
    if arguments.dataset is None:
        return "the documentation texts inside Python (pydoc_data.topics)"
    return in_words(arguments.dataset) if Path(arguments.dataset).expanduser().exists() else arguments.dataset


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
        if arguments.train_file or Path(arguments.dataset).expanduser().exists():
            disable_progress_bar()
        splits = _from_files(arguments) if arguments.train_file else _from_dataset(arguments)
    for name in ("validation", "test"):
        if name not in splits:
            splits["train"], splits[name] = _cut(splits["train"], name, arguments.text_column)
    say("; ".join(f"{name}: {_count(splits[name])}" for name in ("train", "validation", "test")))
    return splits


def load_tokenizer(arguments: DataArguments, texts: dict[str, Dataset | IterableDataset]) -> PreTrainedTokenizerBase:
    """The given tokenizer, or a byte-level BPE trained on the training text.

    Raises:
        ValueError: The tokenizer cannot be loaded, has more tokens than the model's vocabulary, or does not know the text.
    """
    if arguments.tokenizer is None:
        bpe = ByteLevelBPETokenizer()
        rows = (row[arguments.text_column] for row in texts["train"])
        bpe.train_from_iterator(rows, arguments.vocab_size, special_tokens=[END_OF_TEXT], show_progress=False)
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
        return PreTrainedTokenizerFast(
            tokenizer_object=bpe._tokenizer, model_max_length=arguments.block_size, **special
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    except Exception as error:  # damaged files are errors of many types, some of tokenizers nothing but Exception
        raise ValueError(
            f"tokenizer {arguments.tokenizer!r} could not be loaded; give a folder that save_pretrained wrote (with "
            "tokenizer.json) or a Hub name"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer {arguments.tokenizer!r} has no eos_token, which closes a text; give it one")
    if 0 < arguments.vocab_size < (size := size_of(tokenizer)):
        raise ValueError(
            f"the tokenizer {arguments.tokenizer} has {size} tokens, vocab_size={arguments.vocab_size} is smaller; use "
            f"--vocab_size {size}, or 0 for the tokenizer's own size"
        )
    _check_tokens(tokenizer, texts.get("train", ()), arguments)
    return tokenizer


def size_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many rows an embedding of its tokens needs; their numbers may have gaps."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))


def _check_tokens(tokenizer: PreTrainedTokenizerBase, rows: Iterable[dict], arguments: DataArguments) -> None:
    """Refuses a tokenizer that does not know the text; of a folder without one, transformers makes one without tokens.

    Raises:
        ValueError: It makes no tokens of the first texts, or mostly unknown ones.
    """
    texts = [text for row in islice(rows, 1000) if (text := row[arguments.text_column][:1000]).strip()][:100]
    if not texts:
        return
    tokens = [
        number for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] for number in ids
    ]
    unknown = tokens.count(tokenizer.unk_token_id)
    if 2 * unknown >= len(tokens):
        what = f"{unknown:,} of the first {len(tokens):,} tokens are unknown" if tokens else "it makes no tokens of it"
        raise ValueError(
            f"tokenizer {arguments.tokenizer!r}, which has {len(tokenizer):,} tokens, does not know the training text: {what}; "
            "give a folder with tokenizer.json, or a tokenizer of this language"
        )


def pack(
    dataset: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    name: str = "train",
) -> Dataset | IterableDataset:
    """Tokens of all texts, one after another, as blocks: columns `input_ids` and `labels`.

    An end-of-text token closes each document, but not the lines of text files. The remainder of every 1,000 documents, or
    of 20,000 rows where lines are among them, is dropped.

    Raises:
        ValueError: The text is shorter than one block.
    """
    size, end = arguments.block_size, tokenizer.eos_token_id
    if isinstance(dataset, IterableDataset):
        lines = not (next(iter(dataset), None) or {CLOSED: True})[CLOSED]
    else:
        lines = _documents(dataset) < len(dataset)

    def blocks(rows: dict) -> dict:
        # No special tokens: some tokenizers begin every text with one, and a line is not a text.
        encoded = tokenizer(rows[arguments.text_column], add_special_tokens=False, verbose=False)["input_ids"]
        closed = zip(encoded, rows[CLOSED], strict=True)
        tokens = [token for ids, document in closed for token in ([*ids, end] if document else ids)]
        cut = [tokens[i : i + size] for i in range(0, len(tokens) - size + 1, size)]
        return {"input_ids": cut, "labels": cut}

    # 1,000 lines are so few tokens that their remainder would be percents of the text.
    options = {"batched": True, "batch_size": 20_000 if lines else 1_000}
    options["remove_columns"] = [arguments.text_column, CLOSED]
    too_short = f"is shorter than one block of {size} tokens; use a smaller --block_size or more text"
    if isinstance(dataset, IterableDataset):
        packed = dataset.map(blocks, **options).with_format("torch")
        if next(iter(packed), None) is None:
            raise ValueError(f"the {name} text {too_short}")
        return packed
    if len(dataset) > 100_000:
        enable_progress_bar()
    packed = dataset.map(blocks, num_proc=arguments.preprocessing_workers, **options).with_format("torch")
    if len(packed) == 0:
        raise ValueError(f"the {name} text ({_count(dataset)}) {too_short}")
    return packed


def split_for_search(blocks: Dataset | IterableDataset, train_portion: float, seed: int):
    """Blocks for the weights and blocks for the architecture, without overlap; streams are split by index, 20 by 20.

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


def _embedded(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    parts = {"train": [], "validation": [], "test": []}
    for number, topic in enumerate(sorted(topics)):
        parts[{8: "validation", 9: "test"}.get(number % 10, "train")].append(topics[topic])
    splits = {
        name: Dataset.from_dict({arguments.text_column: texts, CLOSED: [True] * len(texts)})
        for name, texts in parts.items()
    }
    return {name: part.to_iterable_dataset() for name, part in splits.items()} if arguments.streaming else splits


def _from_files(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    given = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    files = {name: expand(name, file, BUILDERS) for name, file in given.items() if file is not None}
    refuse_shared(files)
    say_copies(files)
    return {name: _read(name, paths, f"{name}_file={given[name]}", arguments) for name, paths in files.items()}


def _from_dataset(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
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
    root, names = unwrapped(folder, files_below(folder, BUILDERS))
    if not names:
        raise ValueError(
            f"dataset {str(folder)!r} could not be loaded: it holds no file ending in {', '.join(BUILDERS)}"
        )
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
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(BUILDERS[suffix_of(file)], []).append(file)
    parts = []
    for builder, paths in kinds.items():
        source = where if len(kinds) == 1 else f"{where} ({builder}: {', '.join(path.name for path in paths[:3])})"
        try:
            part = load_dataset(
                builder,
                data_files={name: escaped(paths)},
                split=name,
                streaming=arguments.streaming,
                **OPTIONS.get(builder, {}),
            )
            columns = _columns(part)
        except (ValueError, DatasetGenerationError) as error:
            if len(paths) > 1 and not arguments.streaming:  # tables of one call must have the same columns
                parts += [_read(name, [path], f"{where} ({path.name})", arguments) for path in paths]
                continue
            raise ValueError(f"{source} could not be read ({reason(error)}); repair it") from error
        if mixed and "text" in kinds and builder != "text" and arguments.text_column not in columns:
            column = f"without a column {arguments.text_column!r}"
            say_left_out([path.name for path in paths], where, column)
            continue
        parts.append(_with_ends(_only_text(part, source, arguments), builder != "text", arguments))
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


def _with_ends(text: Dataset | IterableDataset, documents: bool, arguments: DataArguments):
    """Adds the column that says whether rows are documents, and gives all texts one type, however they were stored."""
    column = arguments.text_column
    if isinstance(text, IterableDataset):
        features = Features({column: Value("string"), CLOSED: Value("bool")})
        return text.map(lambda row: {**row, CLOSED: documents}, features=features)
    if text.features[column] != Value("string"):
        text = text.cast_column(column, Value("string"))
    return text.add_column(CLOSED, np.full(len(text), documents))


def _documents(text: Dataset) -> int:
    """How many rows are documents."""
    return pc.sum(text.with_format("arrow")[CLOSED][:]).as_py() or 0


def _count(text: Dataset | IterableDataset) -> str:
    if isinstance(text, IterableDataset):
        return "a stream"
    documents = _documents(text)
    counts = {"documents": documents, "lines": len(text) - documents}
    return " and ".join(
        f"{number:,} {what if number != 1 else what[:-1]}" for what, number in counts.items() if number
    )


def _cut(train: Dataset | IterableDataset, name: str, column: str):
    """The last 20th is cut out; of a stream, whose end is not known, about every 20th example."""
    if isinstance(train, IterableDataset):
        return cut_stream(train, name, lambda row: zlib.crc32(row[column].encode()))
    kept = len(train) - max(1, len(train) // 20)
    if kept == 0:
        raise ValueError(
            "the training data is one example, nothing can be cut out of it; give --validation_file and --test_file"
        )
    return train.select(range(kept)), train.select(range(kept, len(train)))
