"""One GPT-2 block under a mixture, in both forms of superposition. Stock modules, functions over them.

`inputs`: residual stream and weights stay full; the mixture enters at each consumer's input. `weights`: every weight is
the share-weighted sum of its zero-padded slices (arXiv:2312.10440, algorithm 2). Layer norms take the statistics of
every width in both, unlike the paper's code, whose full-width statistics are not those of any subnet.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from ...entangle import share_mask, superpose_layer_norm, superpose_linear
from .configuration_elastic_gpt2 import ElasticGPT2Config


class BlockShares(NamedTuple):
    """The mixture as one block sees it: rows over widths, head counts and ratios; `width` (E,) is the widths' mask."""

    embed: Tensor
    heads: Tensor
    ratio: Tensor
    width: Tensor


def superposed_block(
    block: nn.Module,
    hidden: Tensor,
    attend: Tensor | None,
    shares: BlockShares,
    tables: dict[str, Tensor],
    config: ElasticGPT2Config,
) -> Tensor:
    """A block on the residual stream (batch, sequence, E) -> (batch, sequence, E).

    Args:
        block: Stock `GPT2Block` of the largest sizes.
        hidden: The residual stream.
        attend: Boolean (batch, 1, sequence, sequence), or None for plain causal attention.
        shares: The mixture of this block.
        tables: Membership of the axes `embed` (K_e, E), `heads` ([K_e,] K_h, E), `hidden` (K_e, K_r, n_inner).
        config: The supernet's.
    """
    by_weights = config.superposition == "weights"
    normed = superposed_norm(block.ln_1, hidden, shares.embed, config)
    hidden = hidden + _attention(block.attn, normed, attend, shares, tables, config, by_weights)
    normed = superposed_norm(block.ln_2, hidden, shares.embed, config)
    return hidden + _mlp(block.mlp, normed, shares, tables, by_weights)


def superposed_norm(norm: nn.LayerNorm, x: Tensor, embed: Tensor, config: ElasticGPT2Config) -> Tensor:
    """A layer norm of every width at once; stock where there is one width."""
    widths = config.space.choices["n_embd"]
    if len(widths) == 1:
        return norm(x)
    return superpose_layer_norm(x, norm.weight, norm.bias, embed, widths, norm.eps)


def _mlp(mlp: nn.Module, x: Tensor, shares: BlockShares, tables: dict[str, Tensor], by_weights: bool) -> Tensor:
    activation = _fused(mlp.act)
    if not by_weights:
        mask = share_mask(tables["hidden"], shares.embed, shares.ratio)
        hidden = activation(mlp.c_fc(x))
        return mlp.dropout(mlp.c_proj(hidden * mask.to(hidden.dtype)))
    table = tables["hidden"]
    inner = shares.embed[:, None] * share_mask(table.transpose(0, 1), shares.ratio)
    embed = tables["embed"]
    hidden = activation(superpose_linear(x, mlp.c_fc.weight, mlp.c_fc.bias, embed, inner, inner.sum(0)))
    return mlp.dropout(superpose_linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias, inner, embed, shares.width))


def _attention(
    attn: nn.Module,
    x: Tensor,
    attend: Tensor | None,
    shares: BlockShares,
    tables: dict[str, Tensor],
    config: ElasticGPT2Config,
    by_weights: bool,
) -> Tensor:
    table = tables["heads"]
    if config.head_dim is not None:
        table = table.expand(len(shares.embed), *table.shape)  # fixed heads own the same units at every width
    if by_weights:
        rows = shares.embed[:, None] * share_mask(table.transpose(0, 1), shares.heads)
        qkv_columns = rows.repeat(1, 3)
        qkv = superpose_linear(
            x, attn.c_attn.weight, attn.c_attn.bias, tables["embed"], qkv_columns, qkv_columns.sum(0)
        )
    else:
        qkv = attn.c_attn(x)
    query, key, value = qkv.split(attn.split_size, dim=-1)
    dropout = attn.attn_dropout.p if attn.training else 0.0
    attend_with = partial(_attend, key=key, value=value, attend=attend, dropout=dropout)
    if config.head_dim is not None:
        mixed = attend_with(query * _scale(attn, config.head_dim), heads=config.n_head)
        if not by_weights:
            mixed = mixed * share_mask(tables["heads"], shares.heads).to(mixed.dtype)
    else:
        mixed = None
        masks = share_mask(table, shares.embed)
        for share, mask, heads in zip(shares.heads, masks, config.space.choices["n_head"], strict=True):
            scale = shares.embed @ torch.stack(
                [_scale(attn, e // heads, like=x) for e in config.space.choices["n_embd"]]
            )
            if by_weights:
                part = attend_with(query * scale.to(query.dtype), heads=heads) * share.to(query.dtype)
            else:
                part = attend_with(query * (mask * scale).to(query.dtype), heads=heads)
                part = part * (mask * share).to(query.dtype)
            mixed = part if mixed is None else mixed + part
    if by_weights:
        out = superpose_linear(mixed, attn.c_proj.weight, attn.c_proj.bias, rows, tables["embed"], shares.width)
    else:
        out = attn.c_proj(mixed)
    return attn.resid_dropout(out)


def _attend(query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None, dropout: float, heads: int) -> Tensor:
    """Causal attention of already scaled queries, (batch, sequence, width) in and out."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=attend, dropout_p=dropout, is_causal=attend is None, scale=1.0
    )
    return out.transpose(1, 2).flatten(2)


def _scale(attn: nn.Module, head_dim: int, like: Tensor | None = None) -> float | Tensor:
    """Softmax scale of a head of this width; as a tensor it is made in the working precision, not in float32."""
    scale = head_dim**-0.5 if attn.scale_attn_weights else 1.0
    if attn.scale_attn_by_inverse_layer_idx:
        scale /= attn.layer_idx + 1
    return scale if like is None else torch.full((), scale, dtype=attn.c_attn.weight.dtype, device=like.device)


def _fused(activation: nn.Module):
    """GPT-2's `gelu_new` is the tanh GELU written out in eight elementwise passes; torch has the same in one."""
    return partial(F.gelu, approximate="tanh") if isinstance(activation, NewGELUActivation) else activation
