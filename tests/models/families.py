"""The families that the laws are tested on: a new one is one entry in `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from transformers import GPT2LMHeadModel, LlamaForCausalLM, Qwen3ForCausalLM, ViTForImageClassification

import tangle_hf
from tangle_hf import (
    ElasticConvMacroConfig,
    ElasticConvMacroForImageClassification,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    TangleConvMacroForImageClassification,
    TangleMobileNetV3ForImageClassification,
)


@dataclass(frozen=True)
class Family:
    """What the laws need: supernets by head semantics ("split", "fixed") and superposition, inputs with labels.

    `tokens` is the length of the sequence that the inputs give, None without attention. `heads` and `forms` are those that the
    family has; convolutional nets have neither. `hidden` is the dimension of the MLP. `exact` is how far from the extracted
    model a supernet in float64 may be: RMS norms of transformers compute in float32 whatever they are given.
    """

    name: str
    supernet: Callable
    inputs: Callable
    labels: Callable
    tokens: int | None
    stock: type
    heads: tuple[str, ...] = ("split", "fixed")
    forms: tuple[str, ...] = ("inputs", "weights")
    hidden: str = "mlp_ratio"
    exact: float = 1e-10

    @property
    def has_attention(self) -> bool:
        return self.tokens is not None


def randomised(model):
    """Norms, statistics, biases and weights far from their special starting values, so that a wrong slice shows."""
    for parameter in model.parameters():
        std = 2 * parameter[0].numel() ** -0.5 if parameter.ndim == 4 else 0.3  # so that deep blocks are heard
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, std)
    for name, buffer in model.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, *((-0.5, 0.5) if "mean" in name else (0.2, 0.8)))
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


def llama(heads="fixed", superposition="inputs", space=None, kind="Llama", **options):
    """One of the four classes. Heads times their width are no width of the net, and 4 heads do not divide the smaller one."""
    if space is None:
        space = SearchSpace(
            hidden_size=[18, 32],
            num_hidden_layers=[1, 2],
            intermediate_size=PerLayer([8, 20]),
            num_key_value_heads=PerLayer([1, 2]),
            num_key_value_groups=[1, 2],
        )
    options = {"head_dim": 6, "vocab_size": 50, "max_position_embeddings": 16, **options}
    config = getattr(tangle_hf, f"Elastic{kind}Config")(space=space, superposition=superposition, **options)
    return randomised(getattr(tangle_hf, f"Elastic{kind}ForCausalLM")(config))


def conv_macro(heads="split", superposition="inputs", space=None, **options):
    if space is None:
        space = SearchSpace(
            channels_1=[2, 4], channels_2=[3], channels_3=[4], channels_4=[2, 5], kernel_size=PerLayer([3, 5], rows=4)
        )
    options = {
        "image_size": 12,
        "last_channels": 6,
        "hidden_sizes": [8, 8],
        "num_labels": 10,
        "dropout": 0.0,
        **options,
    }
    return randomised(ElasticConvMacroForImageClassification(ElasticConvMacroConfig(space=space, **options)))


def mobilenetv3(heads="split", superposition="inputs", space=None, **options):
    if space is None:
        depths = PerLayer([1, 2], rows=2)
        space = SearchSpace(depths=depths, kernel_size=PerLayer([3, 5]), expand_ratio=[2, 3])
    options = {
        "image_size": 8,
        "hidden_sizes": [4, 4, 4, 8],
        "strides": [1, 1, 2, 1],
        "hidden_acts": ["hardswish", "relu", "relu", "hardswish"],
        "squeeze_excite": [False, False, True, False],
        "head_sizes": [8, 12],
        "depth_divisible_by": 2,
        "squeeze_ratio": 2,
        "classifier_dropout_prob": 0.0,
        "num_labels": 10,
        **options,
    }
    return randomised(ElasticMobileNetV3ForImageClassification(ElasticMobileNetV3Config(space=space, **options)))


def images(batch=2, size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, size, size, generator=generator)


TOKENS = torch.arange(24).view(2, 12) * 7 % 50
NO_ATTENTION = ("split",), ("inputs",)
FAMILIES = [
    Family("gpt2", gpt2, lambda: {"input_ids": TOKENS}, lambda: TOKENS, 12, GPT2LMHeadModel),
    Family("vit", vit, lambda: {"pixel_values": images()}, lambda: torch.tensor([3, 7]), 5, ViTForImageClassification),
    Family(
        "conv_macro",
        conv_macro,
        lambda: {"pixel_values": images(size=12)},
        lambda: torch.tensor([3, 7]),
        None,
        TangleConvMacroForImageClassification,
        *NO_ATTENTION,
    ),
    Family(
        "mobilenetv3",
        mobilenetv3,
        lambda: {"pixel_values": images()},
        lambda: torch.tensor([3, 7]),
        None,
        TangleMobileNetV3ForImageClassification,
        *NO_ATTENTION,
    ),
    *(
        Family(
            kind.lower(),
            partial(llama, kind=kind, **options),
            lambda: {"input_ids": TOKENS},
            lambda: TOKENS,
            12,
            stock,
            heads=("fixed",),
            forms=("inputs",),
            hidden="intermediate_size",
            exact=1e-5,
        )
        for kind, stock, options in (
            ("Llama", LlamaForCausalLM, {"tie_word_embeddings": True}),
            ("Qwen3", Qwen3ForCausalLM, {"attention_bias": True}),
        )
    ),
]
