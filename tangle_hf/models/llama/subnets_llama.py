"""Which Hugging Face class an architecture of a Llama, Mistral, Qwen2 or Qwen3 space is: stock, padded stock, or compact."""

import dataclasses
from typing import NamedTuple

from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from ...axes import AxisTable
from ...space import Architecture
from ..layer_ranks import kept_positions, kept_ranks
from ..spaces import config_of_subnet, layers_differ, per_layer
from .axes_llama import DEPTH, HEADS, HIDDEN, WIDTH, llama_axes
from .configuration_tangle_llama import TangleLlamaConfig
from .modeling_tangle_llama import TangleLlamaForCausalLM


FORMS = ("stock", "padded", "compact")
STOCK = {model.__name__: model for model in (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)}


class LayerSizes(NamedTuple):
    """Sizes of every layer of an architecture: groups, query heads of a group, and hidden units of the MLP."""

    groups: list[int]
    per_group: list[int]
    hidden: list[int]

    @property
    def heads(self) -> list[int]:
        """Query heads."""
        return [g * r for g, r in zip(self.groups, self.per_group, strict=True)]

    @property
    def largest(self) -> "LayerSizes":
        """The largest of each kind in any layer, as one layer."""
        return LayerSizes(*([max(values)] for values in self))


def layer_sizes(config: PreTrainedConfig, arch: Architecture) -> LayerSizes:
    """The sizes of an architecture's layers in order of position."""
    return LayerSizes(*(per_layer(arch, name, config.layer_ranks) for name in (*HEADS, HIDDEN)))


def subnet_forms(config: PreTrainedConfig, arch: Architecture) -> dict[str, str | None]:
    """Form -> None where an architecture has it, else the reason why not. The first possible one is the natural one."""
    sizes = layer_sizes(config, arch)
    reasons = dict.fromkeys(("stock", "compact", "padded"))
    reasons["padded"] = _refusal(config, arch.hidden_size, sizes.largest.heads[0])
    if any(len(set(values)) > 1 for values in sizes):
        found = f"query heads {sizes.heads}, num_key_value_heads {sizes.groups}, intermediate_size {sizes.hidden}"
        reasons["stock"] = layers_differ(found, reasons["padded"])
    else:
        reasons["stock"] = _refusal(config, arch.hidden_size, sizes.heads[0])
    return reasons


def subnet_skeleton(
    config: PreTrainedConfig, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """Class and config of an architecture in one of `FORMS`; ask `subnet_forms` first."""
    sizes, width, depth = layer_sizes(config, arch), arch.hidden_size, arch.num_hidden_layers
    one = sizes if form == "compact" else sizes.largest  # layers are equal, or filled up to the largest one
    common = config_of_subnet(config, "layer_types") | {WIDTH: width, DEPTH: depth, "head_dim": config.head_dim}
    common |= {"num_attention_heads": one.heads[0], HEADS[0]: one.groups[0], HIDDEN: one.hidden[0]}
    if form == "compact":
        layers = {
            layer: {"num_attention_heads": heads, HEADS[0]: groups, HIDDEN: hidden}
            for layer, (heads, groups, hidden) in enumerate(zip(sizes.heads, sizes.groups, sizes.hidden, strict=True))
        }
        if config.window is not None:  # which the compact class has not: it takes texts that no window cuts
            common["max_position_embeddings"] = min(common["max_position_embeddings"], config.window)
        own = {**_known(TangleLlamaConfig, common), **config.parts, "per_layer_config": layers}
        return TangleLlamaForCausalLM, TangleLlamaConfig(**own)
    if config.heads_divide_width and width % one.heads[0]:
        return MistralForCausalLM, MistralConfig(**_known(MistralConfig, common), sliding_window=None)
    if "layer_types" in config.to_dict():  # what a config says of single layers
        common["layer_types"] = [config.layer_types[k] for k in kept_positions(config.layer_ranks, depth)]
        common["max_window_layers"] = min(config.max_window_layers, depth)
    if config.plain == "Qwen2ForCausalLM" and width == one.heads[0] * config.head_dim:
        del common["head_dim"]  # no field of its config
    stock = STOCK[config.plain]
    return stock, stock.config_class(**common)


def padded_axes(config: PreTrainedConfig, arch: Architecture) -> AxisTable:
    """Where the parameters of an architecture sit inside its padded stock form."""
    largest = layer_sizes(config, arch).largest
    return llama_axes(
        vocab_size=config.vocab_size,
        num_hidden_layers=arch.num_hidden_layers,
        hidden_size=arch.hidden_size,
        intermediate_size=largest.hidden[0],
        num_key_value_heads=largest.groups[0],
        num_key_value_groups=largest.per_group[0],
        head_dim=config.head_dim,
        layer_ranks=kept_ranks(config.layer_ranks, arch.num_hidden_layers),
        tied=config.tie_word_embeddings,
        **config.parts,
    )


def _refusal(config: PreTrainedConfig, width: int, heads: int) -> str | None:
    """Why no stock class holds equal layers of so many query heads, or None."""
    if not config.heads_divide_width or width % heads == 0 or not any(config.parts.values()):
        return None
    return (
        f"{heads} query heads do not divide hidden_size={width}, which a Llama's config refuses, and Mistral's, which does "
        "not, has no biases; use the compact form"
    )


def _known(config_class: type[PreTrainedConfig], values: dict) -> dict:
    """Those of the values that a config class has a field for, without the sliding window."""
    names = {field.name for field in dataclasses.fields(config_class)} - {"sliding_window"}
    return {name: value for name, value in values.items() if name in names}
