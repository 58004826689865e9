"""What the blocks of transformers share under a mixture: masks of all layers, norms, mixed heads, the MLP.

`inputs`: residual stream and weights stay full; the mixture enters at each consumer's input. `weights`: every weight is
the share-weighted sum of its zero-padded slices (arXiv:2312.10440, algorithm 2). Layer norms take the statistics of
every width in both, unlike the paper's code, whose full-width statistics are not those of any subnet.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from ..entangle import (
    NestedWidths,
    masked_linear,
    nested_widths,
    share_mask,
    share_sum,
    superpose_layer_norm,
    superpose_linear,
    superpose_rms_norm,
)
from .spaces import Names


# Names of transformers for the GELUs that torch has in one pass; "gelu_new" is the tanh form in eight.
FUSED_GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
SMALLEST_DRAWN = 1e-4  # the gradient of a smaller share is not estimated from draws


class BlockMasks(NamedTuple):
    """A mixture as one block sees it.

    widths: the widths with their shares, for norms.
    attention: share of each unit of q, k and v: (Q,) for `inputs`, for each width (K_e, Q) for `weights`.
    hidden: share of each hidden unit of the MLP: (H,) for `inputs`, for each width (K_e, H) for `weights`.
    width: share of each unit of the residual stream, (E,), which `weights` reads.
    counts: the head counts to attend with, where each has an attention of its own.
    heads: their shares; None where one attention serves all of them.
    """

    widths: NestedWidths
    attention: Tensor
    hidden: Tensor
    width: Tensor | None = None
    counts: tuple[int, ...] = ()
    heads: Tensor | None = None


def block_masks(
    config: PreTrainedConfig, names: Names, tables: dict[str, Tensor], shares: dict[str, Tensor], sampled: bool = False
) -> list[BlockMasks]:
    """The masks of every layer, made for all layers at once.

    With `sampled` each layer attends with one head count, drawn from its shares p and weighted by `p[h] / stop(p[h])`. Its
    output and the gradient of its shares are those of the full sum on average over draws; of a whole net, which is not
    linear in them, they are an estimate. A share that is all but zero would never be drawn and get no gradient: where shares
    need one, as the one-hots of hard samplers do, that layer attends with all counts.

    Args:
        config: The supernet's.
        names: The family's names of the dimensions.
        tables: Membership of the axes `width` (K_e, E), `hidden` (K_e, K_r, H) and `attention`: (K_e, Q) where a head is a
            part of the width, (K_h, Q) where heads have a width of their own.
        shares: The mixture.
        sampled: Draw head counts, from torch's global generator, as dropout does.
    """
    embed, heads, ratios = shares[names.width][0], shares[names.heads], shares["mlp_ratio"]
    layers, by_weights = getattr(config, names.depth), config.superposition == "weights"
    if config.head_dim is None:
        attention = (embed[:, None] * tables["attention"] if by_weights else share_mask(tables["attention"], embed))[
            None
        ]
        counts, parts = _head_parts(config.space.choices[names.heads], heads.expand(layers, -1), sampled)
    else:
        attention = share_mask(tables["attention"], heads)
        attention = embed[:, None] * attention[:, None] if by_weights else attention
        counts, parts = [(config.space.choices[names.heads][-1],)] * layers, [None] * layers
    if by_weights:
        hidden = embed[:, None] * share_mask(tables["hidden"].transpose(0, 1), ratios)
    else:
        hidden = share_mask(tables["hidden"], embed, ratios)
    widths, width = nested_widths(config.space.choices[names.width], embed), share_mask(tables["width"], embed)
    rows = [by_layer(mask, layers) for mask in (attention, hidden)]
    return [BlockMasks(widths, a, h, width, *how) for a, h, *how in zip(*rows, counts, parts, strict=True)]


def by_layer(masks: Tensor, layers: int) -> tuple[Tensor, ...]:
    """The mask of every layer, from masks of all layers, (layers, ...), or one for all of them, (1, ...)."""
    return masks.expand(layers, *masks.shape[1:]).unbind(0)


def superposed_layers(
    layers: nn.ModuleList,
    run: Callable[[nn.Module, Tensor, BlockMasks], Tensor],
    hidden: Tensor,
    masks: list[BlockMasks],
    depths: tuple[int, ...],
    shares: Tensor,
    checkpointing: bool,
    ranks: Sequence[int] | None = None,
) -> Tensor:
    """All blocks, mixed over depths: `sum_d shares[d] x_d`, x_d the residual stream after d blocks.

    With ranks depth d has the blocks of the d lowest ranks, not the first ones, and no x_d occurs in a pass over all of them.
    So each block k is mixed by itself: `x + g_k (block_k(x) - x)`, `g_k = sum_{d > rank_k} shares[d]`.

    Args:
        layers: Stock blocks.
        run: The family's block under a mixture.
        hidden: The residual stream in front of the first block.
        masks: Masks of every block, by rank.
        depths: Choices of the depth, ascending.
        shares: (K_d,).
        checkpointing: Compute each block again in the backward pass.
        ranks: Rank of every block; None: their order.
    """
    if checkpointing:
        run = partial(checkpoint, run, use_reentrant=False)
    if ranks is not None:
        for layer, rank in zip(layers, ranks, strict=True):
            out, first = (
                run(layer, hidden, masks[rank]),
                bisect_right(depths, rank),
            )  # the first depth that has the block
            hidden = hidden + shares[first:].sum() * (out - hidden) if first else out
        return hidden
    ends = []
    for number, (layer, mask) in enumerate(zip(layers, masks, strict=True), 1):
        hidden = run(layer, hidden, mask)
        if number in depths:
            ends.append(hidden)
    return share_sum(shares, ends) if len(ends) > 1 else hidden


def superposed_norm(norm: nn.Module, x: Tensor, widths: NestedWidths) -> Tensor:
    """A layer norm, or an RMS norm of transformers, of every width at once; stock where there is one width."""
    if len(widths.shares) == 1:
        return norm(x)
    if isinstance(norm, nn.LayerNorm):
        return superpose_layer_norm(x, norm.weight, norm.bias, widths, norm.eps)
    return superpose_rms_norm(x, norm.weight, widths, norm.variance_epsilon)


def superposed_mlp(
    x: Tensor,
    up: nn.Module,
    down: nn.Module,
    activation: nn.Module,
    activation_name: str,
    masks: BlockMasks,
    widths: tuple[int, ...],
    by_weights: bool,
) -> Tensor:
    """An MLP under a mixture, `down(activation(up(x)) * mask)`, before its dropout.

    Args:
        x: (..., E).
        up: Stock linear layer or Conv1D from the residual stream to the hidden units.
        down: Stock linear layer or Conv1D from the hidden units back.
        activation: Stock activation between them.
        activation_name: Its name in the config of transformers.
        masks: Masks of this block.
        widths: Choices of the width.
        by_weights: Whether the form of superposition is `weights`, not `inputs`.
    """
    gelu = FUSED_GELU.get(activation_name)
    if by_weights:
        bias_mask = masks.hidden.sum(0)
        hidden = superpose_linear(x, *in_out(up), masks.hidden, widths, bias_mask, prefix_of="inputs")
    else:
        hidden = up(x)
    if gelu is None:
        hidden = activation(hidden)
    if by_weights:
        return superpose_linear(hidden, *in_out(down), masks.hidden, widths, masks.width, "outputs", gelu)
    return masked_linear(hidden, masks.hidden, *in_out(down), gelu)


def in_out(linear: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight as (in, out) and bias of a linear layer or a Conv1D."""
    return linear.weight if isinstance(linear, Conv1D) else linear.weight.T, linear.bias


def softmax_scales(
    masks: BlockMasks, widths: tuple[int, ...], head_dim: int | None
) -> tuple[Tensor | None, tuple[float, ...]]:
    """What queries are to be multiplied by, and the softmax scale of every head count.

    Where a head is e/h wide, for width e and h heads, the softmax scale is (e/h)^-0.5 = h^0.5 e^-0.5. The first factor is a
    number per head count. The second is mixed over the widths, `sum_e shares[e] e^-0.5`, and multiplies the queries: it must be
    a tensor, since the `scale` argument of SDPA is a number and would drop its gradient.
    """
    if head_dim is not None:
        return None, tuple(head_dim**-0.5 for _ in masks.counts)
    shares = masks.widths.shares
    mixed = shares @ torch.tensor(widths, dtype=shares.dtype, device=shares.device).rsqrt()
    return mixed, tuple(heads**0.5 for heads in masks.counts)


def superposed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: BlockMasks,
    scales: tuple[float, ...],
    attend: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attention mixed over head counts, `sum_h shares[h] SDPA_h(query, key, value)`: one SDPA for each count.

    Args:
        query: (batch, sequence, Q).
        key: (batch, sequence, Q).
        value: (batch, sequence, Q).
        masks: Masks of this block; gives head counts and shares.
        scales: Softmax scale of each count.
        attend: Boolean (batch, 1, sequence, sequence), or None.
        is_causal: Causal attention, where `attend` is None.
        dropout: Probability.
    """
    attend_with = partial(_attend, query, key, value, attend, is_causal and attend is None, dropout)
    parts = [attend_with(heads, scale) for heads, scale in zip(masks.counts, scales, strict=True)]
    return parts[0] if masks.heads is None else share_sum(masks.heads, parts)


def _head_parts(
    choices: tuple[int, ...], rows: Tensor, sampled: bool
) -> tuple[list[tuple[int, ...]], list[Tensor | None]]:
    """Head counts to attend with and their shares, for every layer; `rows` (layers, K_h)."""
    if len(choices) == 1:
        return [choices] * len(rows), [None] * len(rows)
    if not sampled:
        return [choices] * len(rows), list(rows.unbind(0))
    shares = rows.detach().float().clamp_min(0)
    drawn = torch.multinomial(shares, 1)
    counts = [(choices[k],) for k in drawn[:, 0].tolist()]
    if not rows.requires_grad:
        return counts, [None] * len(rows)
    picked = rows.gather(1, drawn)
    weights = list((picked / picked.detach()).unbind(0))
    for layer in torch.nonzero(shares.amin(1) < SMALLEST_DRAWN)[:, 0].tolist():
        counts[layer], weights[layer] = choices, rows[layer]
    return counts, weights


def _attend(query, key, value, attend, is_causal: bool, dropout: float, heads: int, scale: float) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=attend, dropout_p=dropout, is_causal=is_causal, scale=scale
    )
    return out.transpose(1, 2).flatten(2)
