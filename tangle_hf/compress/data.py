"""The data of a compression, and the small net that stands in where no checkpoint is given."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from ..data.examples import Examples
from ..data.files import say
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.settings import ImageArguments
from ..data.text import load_texts
from ..data.text_examples import cut_into_blocks, load_text
from ..data.text_settings import SEPARATORS, DataArguments, of_checkpoint
from ..data.tokens import load_tokenizer, pack, separator_tokens, size_of
from ..files import replacing
from ..models.causal_lm import check_window
from ..models.generation import with_pad_token
from ..models.loading import with_loss
from ..training.trainer import train, training_arguments
from .settings import CompressArguments


SMALL = {"n_embd": 96, "n_layer": 4, "n_head": 4}
SMALL_STEPS, SMALL_RATE = 400, 3e-3
DOCUMENTS, BLOCKS = 1_000, 8  # at most, by which separators are compared


def small_checkpoint(folder: Path, data: DataArguments, settings: CompressArguments, main_process: bool) -> str:
    """Trains a small GPT-2 on the data, for want of a checkpoint, unless the run that is resumed has done so.

    Returns:
        Its folder.

    Raises:
        ValueError: A new run finds one there, of which nobody knows what it was trained on.
    """
    if (folder / "config.json").is_file():
        if settings.resume:
            return str(folder)
        raise ValueError(
            f"{folder} is there already, of another run; compress it with --checkpoint {folder} and another --output_dir, or "
            "remove it"
        )
    text = load_text(data)
    sizes = {**SMALL, "vocab_size": size_of(text.processor), "n_positions": data.block_size}
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    special = {name: getattr(text.processor, name) for name in ("bos_token_id", "eos_token_id")}
    torch.manual_seed(settings.seed)
    model = GPT2LMHeadModel(
        GPT2Config(**sizes, **none, **special, initializer_range=0.02 * (768 / SMALL["n_embd"]) ** 0.5)
    )
    if main_process:
        print(
            f"no checkpoint is given: a GPT-2 of {model.num_parameters():,} parameters is trained for {SMALL_STEPS} steps on "
            f"{text.description} first, to be compressed"
        )
    how = replace(settings, learning_rate=SMALL_RATE, min_learning_rate=None, warmup_learning_rate=None)
    arguments = training_arguments(
        how, "finetune", settings.seed, folder.parent / "checkpoints" / "teacher", SMALL_STEPS
    )
    model = train(with_loss(model), text.training(settings.seed), arguments)
    if main_process:
        with replacing(folder, "config.json") as partial:
            model.save_pretrained(partial)
            with_pad_token(text.processor).save_pretrained(partial)
        shutil.rmtree(arguments.output_dir, ignore_errors=True)
    return str(folder)


def examples_of(
    checkpoint: str,
    supernet: PreTrainedModel,
    data: DataArguments | ImageArguments,
    *augmentation: AugmentationArguments,
) -> Examples:
    """Text by the checkpoint's tokenizer, or images by its image processor.

    Args:
        checkpoint: Folder or Hub name.
        supernet: The same, loaded.
        data: Which data.
        *augmentation: Of images.

    Raises:
        ValueError: There is none beside it and none is named, the checkpoint lacks a token of the text or positions, or the
            text is shorter than a block.
    """
    if augmentation:
        return _images(checkpoint, supernet, data, *augmentation)
    if data.streaming:
        raise ValueError("the data of a compression are read several times; leave out --streaming")
    positions = getattr(supernet.config, "max_position_embeddings", None)
    if positions is not None and positions < data.block_size:
        raise ValueError(
            f"{checkpoint} has {positions} positions, block_size={data.block_size} is more; use --block_size {positions}"
        )
    check_window(supernet.config, data.block_size)
    data = of_checkpoint(data, checkpoint, supernet.config.vocab_size)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    if data.separator is None:
        data = replace(data, separator=expected_separator(supernet, tokenizer, texts["train"], data))
    return cut_into_blocks(texts, tokenizer, data, supernet.config.vocab_size)


@torch.no_grad()
def expected_separator(
    supernet: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Dataset, data: DataArguments
) -> str:
    """What stood between documents when the checkpoint was trained, as far as its loss on a few blocks tells.

    A checkpoint whose texts began with a token of their own and closed with none is lost behind an end-of-text token: what it
    says there is nothing to learn from.

    Args:
        supernet: The checkpoint.
        tokenizer: Its tokenizer.
        texts: Training documents.
        data: Block length.
    """
    if tokenizer.bos_token_id in (None, tokenizer.eos_token_id):
        return "eos"
    few, losses = texts.select(range(min(DOCUMENTS, len(texts)))), {}
    supernet.eval()
    rows = supernet.config.vocab_size
    for separator in SEPARATORS:
        if max(separator_tokens(tokenizer, separator)) >= rows:
            continue  # a mark that was added without an embedding
        blocks = pack(few, tokenizer, replace(data, separator=separator), embedded=rows)[:BLOCKS]["input_ids"]
        batches = blocks.to(supernet.device).split(8)
        sums = [supernet(input_ids=batch, labels=batch).loss.item() * len(batch) for batch in batches]
        losses[separator] = sum(sums) / len(blocks)
    if not losses:
        return "eos"  # which is refused where the text is cut
    best = min(losses, key=losses.get)
    heard = ", ".join(f"{loss:.3f} with {name}" for name, loss in losses.items())
    say(f"separator {best} between documents, which the checkpoint expects: its loss is {heard}")
    return best


def _images(
    checkpoint: str, supernet: PreTrainedModel, data: ImageArguments, augmentation: AugmentationArguments
) -> Examples:
    from ..data.images.classes import class_names  # these need the extra vision
    from ..data.images.examples import image_examples
    from ..data.images.loading import load_images
    from ..models.image_classifiers import check_teaches, checkpoint_processor, image_size_of

    config = supernet.config
    if config.num_channels != data.num_channels:
        raise ValueError(
            f"{checkpoint} takes {config.num_channels} channels, num_channels={data.num_channels}; use --num_channels "
            f"{config.num_channels}"
        )
    size = image_size_of(config)
    if data.image_size not in (None, size):
        raise ValueError(f"{checkpoint} takes images of {size} pixels, image_size={data.image_size}; leave it out")
    splits = load_images(data)
    check_teaches(checkpoint, supernet, class_names(splits))
    return image_examples(splits, checkpoint_processor(checkpoint, data, size), size, data, augmentation)
