"""The GPT-2 supernet: a stock `GPT2LMHeadModel` of the largest sizes with two more ways to run it.

Without a mixture it is GPT-2 in every respect. `mixture=` runs the superposition of all architectures, `arch=` the
subnet of one. No module remembers either: both are arguments.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from ..causal_lm import CausalLMSupernetMixin, attention_pattern
from ..superposed import block_masks, superposed_layers, superposed_norm
from .axes_gpt2 import NAMES
from .configuration_elastic_gpt2 import ElasticGPT2Config
from .subnets_gpt2 import padded_axes, subnet_forms, subnet_skeleton
from .superposed_gpt2 import superposed_block


def sizes(config: GPT2Config) -> dict[str, int]:
    """What a checkpoint and the largest choices must agree on; more heads, too, would regroup a checkpoint's units."""
    inner = config.n_inner or 4 * config.n_embd
    return {"n_embd": config.n_embd, "n_layer": config.n_layer, "n_head": config.n_head, "n_inner": inner}


class ElasticGPT2LMHeadModel(CausalLMSupernetMixin, GPT2LMHeadModel):
    """GPT-2 language model with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest stock GPT-2, so checkpoints go both ways.
    """

    config: ElasticGPT2Config
    config_class = ElasticGPT2Config

    stock_config = GPT2Config
    layer_list = "transformer.h"
    tables = {
        "width": ("transformer.h.0.ln_1.weight", 0),
        "attention": ("transformer.h.0.attn.c_proj.weight", 0),
        "hidden": ("transformer.h.0.mlp.c_fc.weight", 1),
    }
    sizes = staticmethod(sizes)
    subnet_forms = staticmethod(subnet_forms)
    subnet_skeleton = staticmethod(subnet_skeleton)
    padded_axes = staticmethod(padded_axes)
    superposed_block = staticmethod(superposed_block)

    def __init__(self, config: ElasticGPT2Config):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # transformers guesses it from the class name, and warns for this one
        self._read_axes()

    def superposed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        shares: Mapping[str, Tensor],
    ) -> Tensor:
        """The logits under checked shares."""
        stem, config = self.transformer, self.config
        masks = block_masks(config, NAMES, self._membership(), shares, sampled=config.sampled_heads and self.training)
        embedded = stem.wte(input_ids)
        attend = attention_pattern(config, embedded, attention_mask, position_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        hidden = embedded + stem.wpe(position_ids)
        if config.superposition == "weights":
            hidden = hidden * masks[0].width
        run = partial(self.superposed_block, attend=attend, config=config)
        depths = config.space.choices[NAMES.depth], shares[NAMES.depth][0]
        checkpointing = self.is_activation_checkpointing and self.training
        mixed = superposed_layers(stem.h, run, stem.drop(hidden), masks, *depths, checkpointing, config.layer_ranks)
        mixed = superposed_norm(stem.ln_f, mixed, masks[0].widths)
        return self.lm_head(mixed * masks[0].width if config.superposition == "weights" else mixed)


__all__ = ["ElasticGPT2LMHeadModel"]
