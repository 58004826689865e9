"""Settings of text, with the help texts that recipes show."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from .files import in_words, one_or_many


END_OF_TEXT = "<|endoftext|>"
SEPARATORS = ("eos", "bos", "both")
CLOSED = "end_of_text"  # column: whether a row is a document, which an end-of-text token closes, or a line of one


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
        metadata={"main": True,
                  "help": "training text: files, folders or patterns of .txt, .md, .json, .jsonl, .csv (or these with "
                          ".gz), .parquet, .arrow. A text file is one text, each row of the others is one; default: the "
                          "documentation inside Python, for a first try"},
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
    separator: str | None = field(
        default=None,
        metadata={"help": "what stands between two documents: the end-of-text token (eos), the token that begins a text "
                          "(bos), or both in this order; default: eos, in a compression what the checkpoint expects"},
    )  # fmt: skip
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
        if self.separator not in (None, *SEPARATORS):
            raise ValueError(f"separator={self.separator!r} is not known; choose one of {', '.join(SEPARATORS)}")
        if self.vocab_size < 0 or (self.tokenizer is None and self.vocab_size < 257):
            raise ValueError(f"vocab_size={self.vocab_size} must be at least 257: all bytes and {END_OF_TEXT}")


def of_checkpoint(arguments: DataArguments, checkpoint: str, rows: int) -> DataArguments:
    """The arguments with the checkpoint's tokenizer, unless they name another, and its vocabulary.

    Args:
        arguments: As they were given.
        checkpoint: Folder or name.
        rows: Embeddings that it has.

    Raises:
        ValueError: A vocabulary of another size is asked for.
    """
    if arguments.vocab_size not in (DataArguments.vocab_size, 0, rows):
        raise ValueError(
            f"vocab_size={arguments.vocab_size}: {checkpoint} keeps its vocabulary of {rows}; leave --vocab_size out, or 0"
        )
    return replace(arguments, tokenizer=arguments.tokenizer or checkpoint, vocab_size=0)


def describe(arguments: DataArguments) -> str:
    """What the text is, in a few words and without the folders of this machine."""
    marks = {None: "", "eos": "", "bos": ", separated by bos", "both": ", separated by eos and bos"}[
        arguments.separator
    ]
    if arguments.train_file is not None:
        return f"the text of {in_words(arguments.train_file)}{marks}"
    if arguments.dataset is None:
        return f"the documentation texts inside Python (pydoc_data.topics){marks}"
    local = Path(arguments.dataset).expanduser().exists()
    return (in_words(arguments.dataset) if local else arguments.dataset) + marks
