"""Tiny checkpoints to compress, for tests on one process and on two."""

from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import image_processor
from tangle_hf.data.text import load_texts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer


SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 300}


def checkpoint(folder: Path, family: str, dropout: float = 0.1) -> str:
    """New weights of a family, with a tokenizer or an image processor; returns the folder. Only GPT-2 has dropout."""
    torch.manual_seed(0)
    if family == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        ViTForImageClassification(
            ViTConfig(**sizes, image_size=8, patch_size=4, id2label={n: str(n) for n in range(10)})
        ).save_pretrained(folder)
        image_processor(ImageArguments(), 8).save_pretrained(folder)
        return str(folder)
    if family == "gpt2":
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 16, "vocab_size": 300}
        model = GPT2LMHeadModel(GPT2Config(**sizes, **dropouts))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=16)
        )
    model.save_pretrained(folder)
    data = DataArguments(vocab_size=300, block_size=16)
    load_tokenizer(data, load_texts(data)).save_pretrained(folder)
    return str(folder)


def text_options(folder: Path, lines: int = 60) -> list[str]:
    """Options of a recipe that name small texts, which are written into the folder."""
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(lines)))
    files = [x for name in ("train", "validation", "test") for x in (f"--{name}_file", str(folder / f"{name}.txt"))]
    return ["--block_size", "16", *files]
