"""The families that the laws are tested on: a new one is one entry in `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GPT2LMHeadModel, ViTForImageClassification

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
)


@dataclass(frozen=True)
class Family:
    """What the laws need: supernets by head semantics ("split", "fixed") and superposition, inputs with labels.

    `tokens` is the length of the sequence that the inputs give.
    """

    name: str
    supernet: Callable
    inputs: Callable
    labels: Callable
    tokens: int
    stock: type


def randomised(model):
    """Norms, biases and weights far from their special starting values, so that a wrong slice shows."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.3)
    return model.eval()


def gpt2(heads="split", superposition="inputs", space=None, vocab_size=50):
    if space is None:
        n_head, n_embd = ([1, 2], [16, 32]) if heads == "fixed" else ([2, 4], [16, 24, 32])
        space = SearchSpace(n_embd=n_embd, n_layer=[1, 2], n_head=PerLayer(n_head), mlp_ratio=PerLayer([1, 1.5, 2]))
    head_dim = space.choices["n_embd"][-1] // space.choices["n_head"][-1] if heads == "fixed" else None
    config = ElasticGPT2Config(
        space=space, vocab_size=vocab_size, n_positions=16, head_dim=head_dim, superposition=superposition
    )
    return randomised(ElasticGPT2LMHeadModel(config))


def vit(heads="split", superposition="inputs", space=None, **options):
    if space is None:
        counts, widths = ([1, 2], [16, 32]) if heads == "fixed" else ([2, 4], [16, 24, 32])
        space = SearchSpace(
            hidden_size=widths,
            num_hidden_layers=[1, 2],
            num_attention_heads=PerLayer(counts),
            mlp_ratio=PerLayer([1, 1.5, 2]),
        )
    if heads == "fixed":  # so that no head count times the head's width is a width of the net
        options = {"head_dim": 12, **options}
    options = {"image_size": 8, "patch_size": 4, "num_labels": 10, "superposition": superposition, **options}
    return randomised(ElasticViTForImageClassification(ElasticViTConfig(space=space, **options)))


def images(batch=2, size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, size, size, generator=generator)


TOKENS = torch.arange(24).view(2, 12) * 7 % 50
FAMILIES = [
    Family("gpt2", gpt2, lambda: {"input_ids": TOKENS}, lambda: TOKENS, 12, GPT2LMHeadModel),
    Family("vit", vit, lambda: {"pixel_values": images()}, lambda: torch.tensor([3, 7]), 5, ViTForImageClassification),
]
