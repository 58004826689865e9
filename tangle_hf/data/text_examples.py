"""Blocks of tokens as examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation import perplexity
from .examples import Examples
from .streams import split_stream
from .text import checksum, load_texts, split_for_search
from .text_settings import CLOSED, DataArguments, describe
from .tokens import load_tokenizer, pack


@dataclass(frozen=True, eq=False)
class TextExamples(Examples):
    """Blocks of one length; `processor` is the tokenizer.

    Args:
        train: Training blocks.
        parts: Of a stream of documents: share of the weights -> blocks of their documents, and of those of the architecture.
    """

    train: Dataset | IterableDataset | None = None
    parts: Callable[[float], tuple[IterableDataset, IterableDataset]] | None = None

    pipeline, example, unit, metric, input_name = "text-generation", "block", "token", "perplexity", "input_ids"
    sample_size = 1

    def training(self, seed: int) -> Dataset | IterableDataset:
        return self.train

    def split(self, train_portion: float, seed: int, batch: int = 1) -> tuple[Dataset | IterableDataset, ...]:
        return self.parts(train_portion) if self.parts else split_for_search(self.train, train_portion, seed)

    def score(
        self, model: PreTrainedModel, examples, batch_size: int, most: int | None = None, **chosen
    ) -> Mapping[str, float]:
        return perplexity(model, examples, batch_size, most, **chosen)

    def columns(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"test loss": scores["loss"], "perplexity": scores["perplexity"]}


def load_text(arguments: DataArguments, embedded: int | None = None) -> TextExamples:
    """Reads text, trains a tokenizer on it or loads the one that is named, and cuts blocks.

    Args:
        arguments: Which text, tokenizer and block length.
        embedded: See `pack`.

    Raises:
        ValueError: The text or the tokenizer cannot be read, a split is shorter than a block, or the model lacks a token.
    """
    texts = load_texts(arguments)
    return cut_into_blocks(texts, load_tokenizer(arguments, texts), arguments, embedded)


def cut_into_blocks(
    texts: dict[str, Dataset | IterableDataset],
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    embedded: int | None = None,
) -> TextExamples:
    """Examples of texts that are read already.

    Raises:
        ValueError: A split is shorter than a block, or the model lacks a token.
    """
    blocks = {name: pack(text, tokenizer, arguments, name, embedded) for name, text in texts.items()}
    held_out, train, parts = (blocks["validation"], blocks["test"]), texts["train"], None
    if isinstance(train, IterableDataset) and next(iter(train))[CLOSED]:

        def parts(train_portion: float) -> tuple[IterableDataset, IterableDataset]:
            split = split_stream(train, train_portion, partial(checksum, arguments.text_column))
            return tuple(pack(part, tokenizer, arguments, "train", embedded) for part in split)

    about = describe(arguments), arguments.block_size
    return TextExamples(tokenizer, *held_out, *about, train=blocks["train"], parts=parts)
