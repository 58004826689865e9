"""What the blocks of every transformer share under a mixture: masks of all layers, layer norms, mixed heads, the MLP.

`inputs`: residual stream and weights stay full; the mixture enters at each consumer's input. `weights`: every weight is
the share-weighted sum of its zero-padded slices (arXiv:2312.10440, algorithm 2). Layer norms take the statistics of
every width in both, unlike the paper's code, whose full-width statistics are not those of any subnet.
"""

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ..entangle import masked_linear, share_mask, share_sum, superpose_layer_norm, superpose_linear


# Names of transformers for the GELUs that torch has in one pass; "gelu_new" is the tanh form in eight.
FUSED_GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


class BlockMasks(NamedTuple):
    """A mixture as one block sees it.

    embed: shares of the widths, (K_e,).
    width: share of each unit of the residual stream, (E,).
    heads: shares of the head counts, (K_h,); None where one attention serves all counts.
    attention: share of each unit of q, k and v: (Q,) for `inputs`, for each width (K_e, Q) for `weights`.
    hidden: share of each hidden unit of the MLP, (H,) or (K_e, H) likewise.
    """

    embed: Tensor
    width: Tensor
    heads: Tensor | None
    attention: Tensor
    hidden: Tensor


def block_masks(
    tables: dict[str, Tensor], embed: Tensor, heads: Tensor, ratios: Tensor, layers: int, by_weights: bool
) -> list[BlockMasks]:
    """The masks of every layer, made for all layers at once.

    Args:
        tables: Membership of the axes `embed` (K_e, E), `hidden` (K_e, K_r, H), `attention`: (K_e, Q) where a head is a
            part of the width, (K_h, Q) where heads have a width of their own, told apart by `split_heads`.
        embed: Shares of the widths, (K_e,).
        heads: Shares of the head counts, one row or one per layer.
        ratios: Shares of the ratios, one row or one per layer.
        layers: How many.
        by_weights: Which form.
    """
    width = share_mask(tables["embed"], embed)
    if "attention_of_width" in tables:
        table = tables["attention_of_width"]
        attention = (embed[:, None] * table if by_weights else share_mask(table, embed))[None]
        counts = heads.unbind(0)
    else:
        attention = share_mask(tables["attention_of_heads"], heads)
        if by_weights:
            attention = embed[:, None] * attention[:, None]
        counts = [None]
    if by_weights:
        hidden = embed[:, None] * share_mask(tables["hidden"].transpose(0, 1), ratios)
    else:
        hidden = share_mask(tables["hidden"], embed, ratios)
    rows = [list(rows) for rows in (counts, attention.unbind(0), hidden.unbind(0))]
    per_layer = [row * layers if len(row) == 1 else row for row in rows]
    return [BlockMasks(embed, width, *row) for row in zip(*per_layer, strict=True)]


def superposed_norm(norm: nn.LayerNorm, x: Tensor, embed: Tensor, widths: tuple[int, ...]) -> Tensor:
    """A layer norm of every width at once; stock where there is one width."""
    if len(widths) == 1:
        return norm(x)
    return superpose_layer_norm(x, norm.weight, norm.bias, embed, widths, norm.eps)


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
        up: Stock linear layer, or Conv1D, to the hidden units.
        down: The one back.
        activation: Stock.
        activation_name: Its name in the config of transformers.
        masks: Of this block.
        widths: Choices of the width.
        by_weights: Which form.
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


def superposed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shares: Tensor | None,
    counts: tuple[int, ...],
    scales: tuple[float, ...],
    attend: Tensor | None,
    is_causal: bool,
    dropout: float,
) -> Tensor:
    """Attention mixed over head counts, `sum_h shares[h] SDPA_h(query, key, value)`: one SDPA for each count.

    Args:
        query: (batch, sequence, Q).
        key: Likewise.
        value: Likewise.
        shares: (K_h,), or None for one count without a share.
        counts: Head counts.
        scales: Softmax scale of each.
        attend: Boolean (batch, 1, sequence, sequence), or None.
        is_causal: Causal attention, where `attend` is None.
        dropout: Probability.
    """
    attend_with = partial(_attend, query, key, value, attend, is_causal and attend is None, dropout)
    parts = [attend_with(heads, scale) for heads, scale in zip(counts, scales, strict=True)]
    return parts[0] if shares is None else share_sum(shares, parts)


def _attend(query, key, value, attend, is_causal: bool, dropout: float, heads: int, scale: float) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=attend, dropout_p=dropout, is_causal=is_causal, scale=scale
    )
    return out.transpose(1, 2).flatten(2)
