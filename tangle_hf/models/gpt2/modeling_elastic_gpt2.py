"""The GPT-2 supernet: a stock `GPT2LMHeadModel` of the largest sizes with two more ways to run it.

Without a mixture it is GPT-2 in every respect. `mixture=` runs the superposition of all architectures, `arch=` the
subnet of one. No module remembers either: both are arguments.
"""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from ...space import Architecture
from ..supernet import SupernetMixin, check_arguments
from ..superposed import block_masks, superposed_layers, superposed_norm
from .axes_gpt2 import NAMES
from .configuration_elastic_gpt2 import ElasticGPT2Config
from .subnets_gpt2 import padded_axes, subnet_forms, subnet_skeleton
from .superposed_gpt2 import superposed_block


def sizes(config: GPT2Config) -> dict[str, int]:
    """What a checkpoint and the largest choices must agree on; more heads, too, would regroup a checkpoint's units."""
    inner = config.n_inner or 4 * config.n_embd
    return {"n_embd": config.n_embd, "n_layer": config.n_layer, "n_head": config.n_head, "n_inner": inner}


class ElasticGPT2LMHeadModel(SupernetMixin, GPT2LMHeadModel):
    """GPT-2 language model with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest stock GPT-2, so checkpoints go both ways.
    """

    config: ElasticGPT2Config
    config_class = ElasticGPT2Config

    stock_config = GPT2Config
    auto_model = AutoModelForCausalLM
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

    def forward(
        self,
        input_ids: Tensor | None = None,
        *args,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        mixture: Mapping[str, Tensor] | None = None,
        arch: Architecture | None = None,
        **kwargs,
    ) -> CausalLMOutputWithCrossAttentions:
        """Runs the largest net (stock), the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            input_ids: Tokens (batch, sequence).
            *args: As in stock GPT-2 (only without mixture and arch).
            attention_mask: 1 for tokens, 0 for padding, (batch, sequence).
            position_ids: Positions (batch, sequence) or (1, sequence).
            labels: Token ids (batch, sequence), shifted inside; -100 is ignored.
            mixture: Dimension -> shares (rows, K), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: As in stock GPT-2.

        Raises:
            ValueError: Both `mixture` and `arch` are given, either does not fit the space, or an argument of stock
                GPT-2 is passed that the superposition does not take.
        """
        if mixture is None and arch is None:
            masks = {"attention_mask": attention_mask, "position_ids": position_ids, "labels": labels}
            return super().forward(input_ids, *args, **masks, **kwargs)
        check_arguments(mixture, arch, args, kwargs, allowed=("use_cache",))
        if arch is not None:
            inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "labels": labels}
            return self._single_path(arch, {"input_ids": input_ids, "use_cache": False, **inputs})
        logits = self._superposed(input_ids, attention_mask, position_ids, self._shares(mixture))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithCrossAttentions(loss=loss, logits=logits)

    def _superposed(self, input_ids, attention_mask, position_ids, shares: dict[str, Tensor]) -> Tensor:
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
        mixed = superposed_layers(stem.h, run, stem.drop(hidden), masks, *depths, checkpointing)
        mixed = superposed_norm(stem.ln_f, mixed, masks[0].widths)
        return self.lm_head(mixed * masks[0].width if config.superposition == "weights" else mixed)


def attention_pattern(
    config: GPT2Config, embedded: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
) -> Tensor | None:
    """Where a token may look, as stock GPT-2 has it: its mask for SDPA, None for plain causal attention.

    A token in front of which everything is padding sees nothing, or with eager attention, whose mask is a number to add,
    everything. Positions that start again, without an attention mask and a cache, start a new text.

    Args:
        config: The supernet's.
        embedded: (batch, sequence, E).
        attention_mask: (batch, sequence) of ones and zeros, or what else stock takes.
        position_ids: As they were given.
    """
    if config._attn_implementation not in (
        "eager",
        "sdpa",
    ):  # a mixture is attended with SDPA, whatever its subnets take
        config = SimpleNamespace(_attn_implementation="sdpa")
    return create_causal_mask(config, embedded, attention_mask, None, position_ids)


__all__ = ["ElasticGPT2LMHeadModel"]
