"""One GPT-2 block under a mixture, in both forms of superposition. Stock modules, functions over them."""

import torch
from torch import Tensor, nn

from ...entangle import masked_linear, superpose_linear
from ..superposed import BlockMasks, in_out, softmax_scales, superposed_attention, superposed_mlp, superposed_norm
from .configuration_elastic_gpt2 import ElasticGPT2Config


def superposed_block(
    block: nn.Module, hidden: Tensor, masks: BlockMasks, attend: Tensor | None, config: ElasticGPT2Config
) -> Tensor:
    """A block on the residual stream (batch, sequence, E) -> (batch, sequence, E).

    Args:
        block: Stock `GPT2Block` of the largest sizes.
        hidden: The residual stream.
        masks: The mixture as this block sees it.
        attend: Boolean (batch, 1, sequence, sequence), or None for plain causal attention.
        config: The supernet's.
    """
    widths, by_weights = config.space.choices["n_embd"], config.superposition == "weights"
    normed = superposed_norm(block.ln_1, hidden, masks.widths)
    hidden = hidden + _attention(block.attn, normed, masks, attend, config)
    normed = superposed_norm(block.ln_2, hidden, masks.widths)
    mlp = block.mlp
    out = superposed_mlp(normed, mlp.c_fc, mlp.c_proj, mlp.act, config.activation_function, masks, widths, by_weights)
    return hidden + mlp.dropout(out)


def _attention(
    attn: nn.Module, x: Tensor, masks: BlockMasks, attend: Tensor | None, config: ElasticGPT2Config
) -> Tensor:
    widths, by_weights = config.space.choices["n_embd"], config.superposition == "weights"
    query_scale, scales = softmax_scales(masks, widths, config.head_dim)
    if not attn.scale_attn_weights:
        query_scale, scales = None, (1.0,) * len(scales)
    if attn.scale_attn_by_inverse_layer_idx:
        scales = tuple(scale / (attn.layer_idx + 1) for scale in scales)
    if by_weights:
        query = masks.attention if query_scale is None else masks.attention * query_scale
        units = torch.cat([query, masks.attention, masks.attention], -1)
        qkv = superpose_linear(x, *in_out(attn.c_attn), units, widths, units.sum(0), "inputs")
        query, key, value = qkv.split(attn.split_size, dim=-1)
    else:
        query, key, value = attn.c_attn(x).split(attn.split_size, dim=-1)
        if config.head_dim is None:  # heads of a fixed width are whole heads: masking their outputs is enough
            factor = masks.attention if query_scale is None else masks.attention * query_scale
            query = query * factor.to(query.dtype)
    dropout = attn.attn_dropout.p if attn.training else 0.0
    mixed = superposed_attention(query, key, value, masks, scales, attend, True, dropout)
    if by_weights:
        out = superpose_linear(mixed, *in_out(attn.c_proj), masks.attention, widths, masks.width, "outputs")
    else:
        out = masked_linear(mixed, masks.attention, *in_out(attn.c_proj))
    return attn.resid_dropout(out)
