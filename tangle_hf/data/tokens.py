"""From text to tokens: the tokenizer, and blocks of one length."""

from collections.abc import Iterable
from itertools import islice

from datasets import Dataset, IterableDataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..messages import draws_bars
from .files import say
from .text_files import count, documents
from .text_settings import CLOSED, END_OF_TEXT, DataArguments


STREAMED_ROWS = 100_000  # of a stream, from which a tokenizer is trained


def load_tokenizer(arguments: DataArguments, texts: dict[str, Dataset | IterableDataset]) -> PreTrainedTokenizerBase:
    """The given tokenizer, or a byte-level BPE trained on the training text, of a stream on its first 100,000 rows.

    Raises:
        ValueError: The tokenizer cannot be loaded, has more tokens than the model's vocabulary, or does not know the text.
    """
    if arguments.tokenizer is None:
        bpe = ByteLevelBPETokenizer()
        # A stream may have no end in sight.
        few = STREAMED_ROWS if isinstance(texts["train"], IterableDataset) else None
        rows = (row[arguments.text_column] for row in islice(texts["train"], few))
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


def separator_tokens(tokenizer: PreTrainedTokenizerBase, separator: str | None) -> list[int]:
    """The tokens between two documents; what would begin the first one and close the last is left out.

    Raises:
        ValueError: The tokenizer has no token that begins a text.
    """
    if separator in ("bos", "both") and tokenizer.bos_token_id is None:
        raise ValueError(f"separator={separator} needs a bos_token, which the tokenizer does not have; use eos")
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    return {"eos": [eos], "bos": [bos], "both": [eos, bos]}[separator or "eos"]


def pack(
    dataset: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    name: str = "train",
    embedded: int | None = None,
) -> Dataset | IterableDataset:
    """Tokens of all texts, one after another, as blocks: columns `input_ids` and `labels`.

    `separator` stands behind each document, but not behind the lines of text files. The remainder of every 1,000 documents, or
    of 20,000 rows where lines are among them, is dropped.

    Args:
        dataset: Texts, and whether each is a document.
        tokenizer: Their tokenizer.
        arguments: Block length, separator, column of the text.
        name: The split, for errors.
        embedded: Embeddings that the model has; None: as many as the tokenizer needs. A tokenizer may have more tokens, such as
            a pad token that was added to it, as long as the text has none of them.

    Raises:
        ValueError: The text is shorter than one block, the tokenizer lacks a token of the separator, or the model one of the
            text.
    """
    size, end = arguments.block_size, separator_tokens(tokenizer, arguments.separator)
    if isinstance(dataset, IterableDataset):
        lines = not (next(iter(dataset), None) or {CLOSED: True})[CLOSED]
    else:
        lines = documents(dataset) < len(dataset)

    def blocks(rows: dict) -> dict:
        # No special tokens: some tokenizers begin every text with one, and a line is not a text.
        encoded = tokenizer(rows[arguments.text_column], add_special_tokens=False, verbose=False)["input_ids"]
        closed = zip(encoded, rows[CLOSED], strict=True)
        tokens = [token for ids, document in closed for token in ([*ids, *end] if document else ids)]
        if embedded is not None and (last := max(tokens, default=0)) >= embedded:
            raise ValueError(
                f"the {name} text has token {last} ({tokenizer.convert_ids_to_tokens(last)!r}), the checkpoint has embeddings "
                f"of {embedded}: resize them (resize_token_embeddings), or give the --tokenizer that it was trained with"
            )
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
    if len(dataset) <= 100_000:  # there is nothing to wait for
        disable_progress_bar()
    elif draws_bars():
        enable_progress_bar()
    else:
        say(f"cutting {len(dataset):,} rows of the {name} text into blocks, which takes a while")
    packed = dataset.map(blocks, num_proc=arguments.preprocessing_workers, **options).with_format("torch")
    if len(packed) == 0:
        raise ValueError(f"the {name} text ({count(dataset)}) {too_short}")
    return packed
