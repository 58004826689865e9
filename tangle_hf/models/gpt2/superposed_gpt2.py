"""One GPT-2 block under a mixture, in both forms of superposition. Stock modules, functions over them."""

import torch
from torch import Tensor, nn

from ...entangle import masked_linear, superpose_linear
from ..superposed import BlockMasks, in_out, superposed_attention, superposed_mlp, superposed_norm
from .configuration_elastic_gpt2 import ElasticGPT2Config


def superposed_block(
    block: nn.Module, hidden: Tensor, attend: Tensor | None, masks: BlockMasks, config: ElasticGPT2Config
) -> Tensor:
    """A block on the residual stream (batch, sequence, E) -> (batch, sequence, E).

    Args:
        block: Stock `GPT2Block` of the largest sizes.
        hidden: The residual stream.
        attend: Boolean (batch, 1, sequence, sequence), or None for plain causal attention.
        masks: The mixture as this block sees it.
        config: The supernet's.
    """
    widths, by_weights = config.space.choices["n_embd"], config.superposition == "weights"
    normed = superposed_norm(block.ln_1, hidden, masks.embed, widths)
    hidden = hidden + _attention(block.attn, normed, attend, masks, config)
    normed = superposed_norm(block.ln_2, hidden, masks.embed, widths)
    mlp = block.mlp
    out = superposed_mlp(normed, mlp.c_fc, mlp.c_proj, mlp.act, config.activation_function, masks, widths, by_weights)
    return hidden + mlp.dropout(out)


def _attention(
    attn: nn.Module, x: Tensor, attend: Tensor | None, masks: BlockMasks, config: ElasticGPT2Config
) -> Tensor:
    by_weights = config.superposition == "weights"
    counts, widths = config.space.choices["n_head"], config.space.choices["n_embd"]
    scales, query_scale = [1.0] * len(counts), None
    if attn.scale_attn_weights and masks.heads is None:
        scales = [config.head_dim**-0.5]
    elif attn.scale_attn_weights:
        # (e/h)^-0.5 = h^0.5 e^-0.5, the second factor mixed over the widths. It must be a tensor: the scale of SDPA is
        # a number and has no gradient.
        scales = [heads**0.5 for heads in counts]
        query_scale = masks.embed @ torch.tensor(widths, dtype=x.dtype, device=x.device).rsqrt()
    if attn.scale_attn_by_inverse_layer_idx:
        scales = [scale / (attn.layer_idx + 1) for scale in scales]
    if masks.heads is None:
        counts, scales = (config.n_head,), scales[:1]
    if by_weights:
        query = masks.attention if query_scale is None else masks.attention * query_scale
        units = torch.cat([query, masks.attention, masks.attention], -1)
        qkv = superpose_linear(x, *in_out(attn.c_attn), units, widths, units.sum(0), "inputs")
        query, key, value = qkv.split(attn.split_size, dim=-1)
    else:
        query, key, value = attn.c_attn(x).split(attn.split_size, dim=-1)
        if masks.heads is not None:
            factor = masks.attention if query_scale is None else masks.attention * query_scale
            query = query * factor.to(query.dtype)
    dropout = attn.attn_dropout.p if attn.training else 0.0
    mixed = superposed_attention(query, key, value, masks.heads, counts, scales, attend, True, dropout)
    if by_weights:
        out = superpose_linear(mixed, *in_out(attn.c_proj), masks.attention, widths, masks.width, "outputs")
    else:
        out = masked_linear(mixed, masks.attention, *in_out(attn.c_proj))
    return attn.resid_dropout(out)
