"""One ViT block under a mixture, in both forms of superposition. Stock modules, functions over them."""

import torch
from torch import Tensor, nn

from ...entangle import masked_linear, superpose_linear
from ..superposed import BlockMasks, in_out, softmax_scales, superposed_attention, superposed_mlp, superposed_norm
from .configuration_elastic_vit import ElasticViTConfig


def superposed_block(
    block: nn.Module, hidden: Tensor, masks: BlockMasks, config: ElasticViTConfig, drop_path: Tensor | None = None
) -> Tensor:
    """A block on the residual stream (batch, tokens, E) -> (batch, tokens, E).

    Args:
        block: Stock `ViTLayer` of the largest sizes.
        hidden: The residual stream.
        masks: The mixture as this block sees it.
        config: The supernet's.
        drop_path: Probability of leaving a branch out for an image, in training (arXiv:1603.09382); a tensor, so that one
            compiled program serves all of them. None: none is left out.
    """
    widths, by_weights = config.space.choices["hidden_size"], config.superposition == "weights"
    normed = superposed_norm(block.layernorm_before, hidden, masks.widths)
    out = block.dropout(_attention(block.attention, normed, masks, config))
    hidden = hidden + _drop_path(out, drop_path)
    normed, mlp = superposed_norm(block.layernorm_after, hidden, masks.widths), block.mlp
    out = superposed_mlp(normed, mlp.fc1, mlp.fc2, mlp.activation_fn, config.hidden_act, masks, widths, by_weights)
    return hidden + _drop_path(block.dropout(out), drop_path)


def _attention(attention: nn.Module, x: Tensor, masks: BlockMasks, config: ElasticViTConfig) -> Tensor:
    widths, by_weights = config.space.choices["hidden_size"], config.superposition == "weights"
    query_scale, scales = softmax_scales(masks, widths, config.head_dim)
    if by_weights:
        query_mask = masks.attention if query_scale is None else masks.attention * query_scale
        query, key, value = (
            superpose_linear(x, *in_out(projection), mask, widths, mask.sum(0), "inputs")
            for projection, mask in (
                (attention.q_proj, query_mask),
                (attention.k_proj, masks.attention),
                (attention.v_proj, masks.attention),
            )
        )
    else:
        query, key, value = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
        if query_scale is not None:  # heads of a fixed width are whole heads: masking their outputs is enough
            query = query * (masks.attention * query_scale).to(query.dtype)
    dropout = attention.attention_dropout if attention.training else 0.0
    mixed = superposed_attention(query, key, value, masks, scales, dropout=dropout)
    if by_weights:
        return superpose_linear(mixed, *in_out(attention.o_proj), masks.attention, widths, masks.width, "outputs")
    return masked_linear(mixed, masks.attention, *in_out(attention.o_proj))


def _drop_path(branch: Tensor, probability: Tensor | None) -> Tensor:
    if probability is None:
        return branch
    keep = torch.rand(len(branch), 1, 1, device=branch.device) >= probability
    return branch * (keep / (1 - probability)).to(branch.dtype)
