"""Text for the language recipes: load it, tokenise it, cut it into blocks, split it for the two levels of the search."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics

from datasets import Dataset, DatasetDict, IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .streams import cut_stream, weight_twentieths


END_OF_TEXT = "<|endoftext|>"
BUILDERS = {".txt": "text", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass
class DataArguments:
    """Which text, which tokenizer, which block length. With nothing given: the documentation texts inside Python itself.

    Raises:
        ValueError: A size is out of its range, or both a dataset and files are given.
    """

    _argument_group_name = "data"

    dataset: str | None = field(default=None, metadata={"help": "Hub name or local folder for datasets.load_dataset"})
    dataset_config: str | None = field(default=None, metadata={"help": "configuration of that dataset"})
    train_file: str | None = field(default=None, metadata={"help": "training text: .txt, .json, .jsonl or .parquet"})
    validation_file: str | None = field(default=None, metadata={"help": "validation text; default: cut from train"})
    test_file: str | None = field(default=None, metadata={"help": "test text; default: cut from train"})
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
        if self.dataset and self.train_file:
            raise ValueError(f"dataset={self.dataset} and train_file={self.train_file} are both given; choose one")
        if not self.train_file and (self.validation_file or self.test_file):
            raise ValueError("validation_file and test_file need a train_file")
        if self.block_size < 2:
            raise ValueError(f"block_size={self.block_size} must be at least 2: the last token is only predicted")
        if self.vocab_size < 0 or (self.tokenizer is None and self.vocab_size < 257):
            raise ValueError(f"vocab_size={self.vocab_size} must be at least 257: all bytes and {END_OF_TEXT}")


def describe(arguments: DataArguments) -> str:
    """What the text is, in a few words and without the folders of this machine."""
    if arguments.train_file is not None:
        return f"the text of {Path(arguments.train_file).name}"
    if arguments.dataset is None:
        return "the documentation texts inside Python (pydoc_data.topics)"
    return Path(arguments.dataset).name if Path(arguments.dataset).exists() else arguments.dataset


def load_texts(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    """The texts of "train", "validation" and "test"; a missing split is cut out of train, the last 20th.

    Raises:
        ValueError: A file or dataset cannot be read or is empty, it has no such text column, or nulls in it.
    """
    if arguments.dataset is None and arguments.train_file is None:
        ordered = [topics[name] for name in sorted(topics)]
        parts = {"train": [], "validation": [], "test": []}
        for number, text in enumerate(ordered):
            parts[{8: "validation", 9: "test"}.get(number % 10, "train")].append(text)
        splits = {name: Dataset.from_dict({arguments.text_column: texts}) for name, texts in parts.items()}
        return {name: part.to_iterable_dataset() for name, part in splits.items()} if arguments.streaming else splits
    splits = _from_files(arguments) if arguments.train_file else _from_dataset(arguments)
    splits = {name: _only_text(part, name, arguments) for name, part in splits.items()}
    for name in ("validation", "test"):
        if name not in splits:
            splits["train"], splits[name] = _cut(splits["train"], name, arguments.text_column)
    return splits


def load_tokenizer(arguments: DataArguments, texts: dict[str, Dataset | IterableDataset]) -> PreTrainedTokenizerBase:
    """The given tokenizer, or a byte-level BPE trained on the training text.

    Raises:
        ValueError: The tokenizer cannot be loaded, or has more tokens than the model's vocabulary.
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
    except (OSError, ValueError) as error:
        raise ValueError(
            f"tokenizer {arguments.tokenizer!r} could not be loaded; give a folder that save_pretrained wrote (with "
            "tokenizer.json) or a Hub name"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer {arguments.tokenizer!r} has no eos_token, which closes a text; give it one")
    if 0 < arguments.vocab_size < len(tokenizer):
        raise ValueError(
            f"the tokenizer {arguments.tokenizer} has {len(tokenizer)} tokens, vocab_size={arguments.vocab_size} is smaller; "
            f"use --vocab_size {len(tokenizer)}, or 0 for the tokenizer's own size"
        )
    return tokenizer


def pack(
    dataset: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    name: str = "train",
) -> Dataset | IterableDataset:
    """Tokens of all texts, one after another, as blocks: columns `input_ids` and `labels`.

    An end-of-text token closes each text, except the lines of a text file, which are one text. The remainder of every
    1,000 texts, or 20,000 lines, is dropped.

    Raises:
        ValueError: The text is shorter than one block.
    """
    size = arguments.block_size
    lines = (arguments.train_file or "").endswith(".txt") or _is_text_folder(arguments.dataset)
    end = None if lines else tokenizer.eos_token_id

    def blocks(rows: dict) -> dict:
        # No special tokens: some tokenizers begin every text with one, and a line is not a text.
        encoded = tokenizer(rows[arguments.text_column], add_special_tokens=False, verbose=False)["input_ids"]
        tokens = [token for ids in encoded for token in ([*ids, end] if end is not None else ids)]
        cut = [tokens[i : i + size] for i in range(0, len(tokens) - size + 1, size)]
        return {"input_ids": cut, "labels": cut}

    # 1,000 lines are so few tokens that their remainder would be percents of the text.
    options = {"batched": True, "batch_size": 20_000 if lines else 1_000, "remove_columns": [arguments.text_column]}
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
        raise ValueError(f"the {name} text ({len(dataset)} documents) {too_short}")
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


def _from_files(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    files = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    disable_progress_bar()
    return {name: _read_file(name, Path(file), arguments) for name, file in files.items() if file is not None}


def _read_file(name: str, path: Path, arguments: DataArguments) -> Dataset | IterableDataset:
    if not path.is_file() or path.suffix not in BUILDERS:
        raise ValueError(f"{name}_file={path} must be an existing file ending in {', '.join(BUILDERS)}")
    if path.stat().st_size == 0:  # each builder has an error of its own for this
        raise ValueError(f"{name}_file={path} is empty; give at least one text")
    # Line by line, with the newlines: nothing of the text is lost, and no file is held in memory as one string.
    options = {"keep_linebreaks": True} if path.suffix == ".txt" else {}
    try:
        return load_dataset(
            BUILDERS[path.suffix], data_files={name: str(path)}, split=name, streaming=arguments.streaming, **options
        )
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(f"{name}_file={path} could not be read ({error.__cause__ or error}); repair it") from error


def _from_dataset(arguments: DataArguments) -> dict[str, Dataset | IterableDataset]:
    # As for single files: without the option the newlines are lost.
    options = {"keep_linebreaks": True} if _is_text_folder(arguments.dataset) else {}
    # A relative name may be that of a builder of datasets, such as json, which would come before the folder.
    source = str(Path(arguments.dataset).absolute()) if Path(arguments.dataset).is_dir() else arguments.dataset
    try:
        found = load_dataset(source, arguments.dataset_config, streaming=arguments.streaming, **options)
    except (OSError, ConnectionError, ValueError, DatasetGenerationError) as error:
        raise ValueError(
            f"dataset {arguments.dataset!r} could not be loaded ({error.__cause__ or error}); check the name and the "
            "network, or give local files with --train_file"
        ) from error
    renamed = {"valid": "validation", "dev": "validation"}
    splits: DatasetDict | dict = {renamed.get(name, name): part for name, part in found.items()}
    if "train" not in splits:
        raise ValueError(f"dataset {arguments.dataset!r} has splits {list(found)}, none is train")
    return {name: part for name, part in splits.items() if name in ("train", "validation", "test")}


def _is_text_folder(dataset: str | None) -> bool:
    """Whether the dataset is a local folder whose data files are all .txt."""
    if dataset is None or not Path(dataset).is_dir():
        return False
    endings = {file.suffix for file in Path(dataset).rglob("*") if file.is_file()}
    return ".txt" in endings and not endings & {".json", ".jsonl", ".parquet", ".csv", ".arrow"}


def _only_text(part: Dataset | IterableDataset, name: str, arguments: DataArguments) -> Dataset | IterableDataset:
    """The text column alone, refused where a text is missing; a stream tells of that when it comes to it."""
    file, column = getattr(arguments, f"{name}_file"), arguments.text_column
    source = f"{name}_file={file}" if file else f"the {name} split of dataset {arguments.dataset!r}"
    try:
        columns = part.column_names or list(next(iter(part), {}))  # some streams know them with the first row only
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(f"{source} could not be read ({error.__cause__ or error}); repair it") from error
    if not columns:
        raise ValueError(f"{source} is empty; give at least one text")
    if column not in columns:
        raise ValueError(f"{source} has columns {columns}, none is {column!r}; use --text_column")
    text = part.select_columns([column])
    null = f"a null in column {column!r}, where a text should be; remove such rows"

    def has_text(row: dict) -> bool:
        if row[column] is None:
            raise ValueError(f"{source} has {null}")
        return True

    if isinstance(text, IterableDataset):
        return text.filter(has_text)
    if missing := text.data.column(column).null_count:
        raise ValueError(f"{source} has {missing} of {len(text)} rows with {null}")
    return text


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
