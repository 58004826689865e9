"""The families that the laws are tested on: a new one is one entry in `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GPT2LMHeadModel

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace


@dataclass(frozen=True)
class Family:
    """What the laws need: supernets by head semantics ("split", "fixed") and superposition, inputs, the stock class."""

    name: str
    supernet: Callable
    inputs: Callable
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


FAMILIES = [Family("gpt2", gpt2, lambda: {"input_ids": torch.arange(24).view(2, 12) * 7 % 50}, GPT2LMHeadModel)]
