"""The Llama, Mistral, Qwen2 and Qwen3 supernets: stock models of the largest sizes with two more ways to run them.

Without a mixture each is the stock model in every respect. `mixture=` runs the superposition of all architectures, `arch=` the
subnet of one. No module remembers either: both are arguments.
"""

import os
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ...space import SearchSpace
from ..causal_lm import CausalLMSupernetMixin, attention_pattern
from ..superposed import superposed_layers, superposed_norm
from .axes_llama import DEPTH, HEADS, HIDDEN, WIDTH
from .configuration_elastic_llama import (
    ElasticLlamaConfig,
    ElasticMistralConfig,
    ElasticQwen2Config,
    ElasticQwen3Config,
)
from .subnets_llama import padded_axes, subnet_forms, subnet_skeleton
from .superposed_llama import llama_masks, superposed_block


def sizes(config: PreTrainedConfig) -> dict[str, int]:
    """What a checkpoint and the largest choices must agree on; other heads would regroup a checkpoint's units."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    named = {name: getattr(config, name) for name in (WIDTH, DEPTH, HIDDEN)}
    return named | dict(zip(HEADS, (groups, heads // groups), strict=True)) | {"head_dim": head_dim}


class ElasticLlamaMixin(CausalLMSupernetMixin):
    """What the four supernets have in common, which is all but the stock class and its config."""

    layer_list = "model.layers"
    tables = {
        "attention": ("model.layers.0.self_attn.o_proj.weight", 1),
        "hidden": ("model.layers.0.mlp.down_proj.weight", 1),
    }
    sizes = staticmethod(sizes)
    subnet_forms = staticmethod(subnet_forms)
    subnet_skeleton = staticmethod(subnet_skeleton)
    padded_axes = staticmethod(padded_axes)
    superposed_block = staticmethod(superposed_block)

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self._read_axes()

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, *args, space: SearchSpace | None = None, **kwargs):
        """As `SupernetMixin.from_pretrained`, which says what it takes.

        Raises:
            ValueError: As there; or layers have weights that the class of the config has no place for, as a Qwen's under the
                config of a Llama has.
        """
        told = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(path, *args, space=space, output_loading_info=True, **kwargs)
        if foreign := sorted(name for name in info["unexpected_keys"] if name.startswith("model.layers.")):
            raise ValueError(
                f"{path} holds {len(foreign)} weights of layers that a {cls.config_class.plain} has no place for "
                f"({foreign[0]}); config.json is that of another class or of fewer layers: copy or write both again"
            )
        return (model, info) if told else model

    def _apply(self, *args, **kwargs):
        # Frequencies of rotary positions are float32 in a model that is loaded in half precision. `.to(torch.bfloat16)` would
        # round them, and an export, which computes them anew, would differ.
        rotary = self.model.rotary_emb
        frequencies = {name: buffer for name, buffer in rotary.named_buffers() if not buffer.is_meta}
        super()._apply(*args, **kwargs)
        for name, buffer in frequencies.items():
            setattr(rotary, name, buffer.to(getattr(rotary, name).device))
        return self

    def superposed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        shares: Mapping[str, Tensor],
    ) -> Tensor:
        """The logits under checked shares."""
        stem, config = self.model, self.config
        masks = llama_masks(config, self._membership(), shares)
        hidden = stem.embed_tokens(input_ids)
        attend = attention_pattern(config, hidden, attention_mask, position_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        rotary = stem.rotary_emb(hidden, position_ids=position_ids)
        run = partial(self.superposed_block, attend=attend, rotary=rotary)
        depths = config.space.choices[DEPTH], shares[DEPTH][0]
        checkpointing = self.is_activation_checkpointing and self.training
        mixed = superposed_layers(stem.layers, run, hidden, masks, *depths, checkpointing, config.layer_ranks)
        return self.lm_head(superposed_norm(stem.norm, mixed, masks[0].widths))


class ElasticLlamaForCausalLM(ElasticLlamaMixin, LlamaForCausalLM):
    """Llama language model with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest stock Llama, so checkpoints go both ways.
    """

    config: ElasticLlamaConfig
    config_class = ElasticLlamaConfig
    stock_config = LlamaConfig


class ElasticMistralForCausalLM(ElasticLlamaMixin, MistralForCausalLM):
    """Mistral language model with entangled weights: `ElasticLlamaForCausalLM` with any number of query heads."""

    config: ElasticMistralConfig
    config_class = ElasticMistralConfig
    stock_config = MistralConfig


class ElasticQwen2ForCausalLM(ElasticLlamaMixin, Qwen2ForCausalLM):
    """Qwen2 language model with entangled weights: as Llama, with biases of q, k and v."""

    config: ElasticQwen2Config
    config_class = ElasticQwen2Config
    stock_config = Qwen2Config


class ElasticQwen3ForCausalLM(ElasticLlamaMixin, Qwen3ForCausalLM):
    """Qwen3 language model with entangled weights: as Llama, with norms of q and k."""

    config: ElasticQwen3Config
    config_class = ElasticQwen3Config
    stock_config = Qwen3Config


__all__ = [
    "ElasticLlamaForCausalLM",
    "ElasticMistralForCausalLM",
    "ElasticQwen2ForCausalLM",
    "ElasticQwen3ForCausalLM",
]
