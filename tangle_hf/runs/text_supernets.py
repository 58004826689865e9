"""The supernet of a search on text: with new weights for the tokens of its data, or started from a checkpoint."""

from collections.abc import Callable, Mapping

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..data.text_settings import DataArguments
from ..data.tokens import size_of
from ..models.causal_lm import check_window
from ..models.checkpoint_errors import reading_checkpoint
from ..models.generation import set_generation_defaults


def from_checkpoint(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    start_from: str | None,
    block_size: int,
    dropouts: Mapping[str, float] | None = None,
) -> PreTrainedModel | None:
    """The supernet of the checkpoint that a search starts from; None where it starts from none.

    Args:
        kind: Class of the supernet.
        config: Gives the space, width of a head, ranks of layers and form of superposition; all else is the checkpoint's.
        start_from: Folder or name of the checkpoint.
        block_size: Tokens of a block.
        dropouts: Field of the config -> probability that takes the place of the checkpoint's.

    Raises:
        ValueError: The checkpoint cannot be read, is not the largest choice, or has too few positions or too short a window.
    """
    if start_from is None:
        return None
    own = {name: getattr(config, name) for name in ("space", "head_dim", "superposition", "layer_ranks")}
    with reading_checkpoint("start_from", start_from):
        supernet = kind.from_pretrained(start_from, **own, **(dropouts or {}))
    positions = supernet.config.max_position_embeddings
    if positions < block_size:
        raise ValueError(
            f"{start_from} has {positions} positions, block_size={block_size} is more; use a smaller --block_size"
        )
    check_window(supernet.config, block_size)
    return supernet


def text_supernet(
    kind: type[PreTrainedModel],
    make_config: Callable[..., PreTrainedConfig],
    data: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    started: PreTrainedModel | None = None,
) -> PreTrainedModel:
    """A new supernet, or the one that was started from a checkpoint, ready to generate.

    Args:
        kind: Class of the supernet.
        make_config: Makes its config of `vocab_size`, `bos_token_id` and `eos_token_id`.
        data: Whose `vocab_size` is the least where a tokenizer is given.
        tokenizer: That of the data.
        started: Of `from_checkpoint`.

    Raises:
        ValueError: The space cannot be, or the checkpoint has fewer tokens than the tokenizer.
    """
    if started is None:
        vocab_size = max(data.vocab_size, size_of(tokenizer)) if data.tokenizer else size_of(tokenizer)
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        supernet = kind(make_config(vocab_size=vocab_size, **special))
    elif started.config.vocab_size < size_of(tokenizer):
        raise ValueError(
            f"the checkpoint has {started.config.vocab_size} tokens, the data {size_of(tokenizer)}; use its own "
            "--tokenizer"
        )
    else:
        supernet = started
    set_generation_defaults(supernet)
    return supernet
