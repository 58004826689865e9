"""Layer norms of several nested widths at once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .fused_layer_norm import FusedLayerNorm


BLOCK_BYTES = 2**20  # of a block of tokens on a CPU: its temporaries stay in the cache


class NestedWidths(NamedTuple):
    """Nested widths and their shares in the tables that all layer norms of a step read; `nested_widths` makes them.

    sizes: K strictly ascending widths, the last one E.
    shares: Share of each width, (K,).
    inside: Which units every width has, zeros and ones (K, E).
    averages: inside[k, i] / sizes[k], (K, E): a product with it is a mean over the units of each width.
    share_inside: shares[k] inside[k, i], (K, E), without a gradient.
    share_averages: shares[k] averages[k, i], (K, E), without a gradient.
    """

    sizes: tuple[int, ...]
    shares: Tensor
    inside: Tensor
    averages: Tensor
    share_inside: Tensor
    share_averages: Tensor


def nested_widths(sizes: tuple[int, ...], shares: Tensor) -> NestedWidths:
    """Makes the tables that layer norms read of a mixture over widths, once for all of them, in float32 at least.

    Args:
        sizes: K strictly ascending widths, the last one that of the whole input.
        shares: Share of each width, (K,).
    """
    shares = shares.to(torch.promote_types(shares.dtype, torch.float32))
    columns, fixed = torch.tensor(sizes, device=shares.device)[:, None], shares.detach()[:, None]
    inside = (torch.arange(sizes[-1], device=shares.device) < columns).to(shares.dtype)
    averages = inside / columns
    return NestedWidths(tuple(sizes), shares, inside, averages, inside * fixed, averages * fixed)


def superpose_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, widths: NestedWidths, eps: float) -> Tensor:
    """The layer norms of all widths, each over its own first units, as one share-weighted sum::

        y = sum_k shares[k] pad(LN(x[..., :sizes[k]]))                      pad appends zeros
        y[i] = weight[i] (x[i] sum_k a_k / sigma_k - sum_k a_k mu_k / sigma_k) + bias[i] sum_k a_k

    with a_k = shares[k], mean mu_k and standard deviation sigma_k of the first sizes[k] units, and sums over the widths that
    contain unit i. As y is affine in x, K widths cost hardly more than one. See docs/design.md, section 3.

    Args:
        x: (..., E).
        weight: Gains (E,).
        bias: (E,).
        widths: K widths and their shares.
        eps: Added to the variances.

    Returns:
        (..., E), in float32 under autocast as `torch.nn.LayerNorm` does, else in the type of x.
    """
    autocast, (sizes, shares, *tables) = torch.is_autocast_enabled(x.device.type), widths
    tokens, weight, bias = (t.to(shares.dtype) for t in (x.reshape(-1, sizes[-1]), weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling():
            out = FusedLayerNorm.apply(tokens, weight, bias, shares, sizes, eps)
        else:
            out = _SuperposedLayerNorm.apply(tokens, weight, bias, shares, *tables, eps)
    return (out if autocast else out.to(x.dtype)).view_as(x)


class _SuperposedLayerNorm(torch.autograd.Function):
    # On a CPU a small input costs as much as its calls do and a large one as its passes over memory, so both are kept few.
    # Numbers per width and token are (K, tokens): products with a (K, E) table are several times faster than with (tokens, K).
    @staticmethod
    def forward(ctx, tokens, weight, bias, shares, inside, averages, share_inside, share_averages, eps):
        gains = share_inside * weight
        table = torch.cat([-gains, (share_inside.sum(0) * bias)[None]])
        out, saved = torch.empty_like(tokens), []
        for rows, target in zip(token_blocks(tokens), token_blocks(out), strict=True):
            mean = averages @ rows.T
            # The variance is E[x^2] - E[x]^2, which loses digits where the mean is large. So the mean of the narrowest width
            # is subtracted first: that width is part of every other, and its mean is off theirs by a few of their standard
            # deviations at most.
            centred, mean = rows - mean[0][:, None], mean - mean[0]
            squares = averages @ centred.square().T
            rstd = squares.addcmul_(mean, mean, value=-1).add_(eps).rsqrt_()
            shifts = F.pad(rstd * mean, (0, 0, 0, 1), value=1.0)  # the last row meets the bias
            torch.mm(shifts.T, table, out=target).addcmul_(centred, rstd.T @ gains)
            saved += centred, mean, rstd, shifts
        ctx.save_for_backward(weight, bias, inside, share_inside, share_averages, gains, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        with torch.autocast(grad.device.type, enabled=False):  # backward() may be called where it is on
            return _gradients(ctx, grad)


# For g = dL/dy, token t, unit i and width k, with the names of the code (`shares` and `size` are of width k):
#
#     n[k, t, i]       = (centred[t, i] - mean[k, t]) rstd[k, t]                 the normed input of width k
#     y[t, i]          = sum_k shares inside[k, i] (weight[i] n[k, t, i] + bias[i])
#
#     sum_g[k, t]      = sum_i inside[k, i] weight[i] g[t, i]
#     normed[k, t]     = sum_i inside[k, i] weight[i] g[t, i] n[k, t, i]
#     dL/dtokens[t, i] = sum_k shares inside[k, i] rstd[k, t] (weight[i] g[t, i] - (sum_g[k, t] + n[k, t, i] normed[k, t])/size)
#                      = g[t, i] sum_k rstd[k, t] gains[k, i]
#                        + sum_k share_averages[k, i] (centred[t, i] slope[k, t] + offset[k, t])
#                        slope = -normed rstd^2,  offset = -(slope mean + rstd sum_g),  gains = shares inside weight
#     dL/dweight[i]    = sum_k shares inside[k, i] grad_gains[k, i],             grad_gains[k, i] = sum_t g[t, i] n[k, t, i]
#     dL/dbias[i]      = total[i] sum_k shares inside[k, i],                     total[i] = sum_t g[t, i]
#     dL/dshares[k]    = sum_t normed[k, t] + sum_i inside[k, i] bias[i] total[i]
#
# `centred` is `tokens` less one number per token. No n depends on that number, so the gradients of both are equal.
def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    weight, bias, inside, share_inside, share_averages, gains, *saved = ctx.saved_tensors
    need_tokens, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
    of_gains = inside * weight
    grad_tokens = torch.empty_like(grad) if need_tokens else None
    targets = token_blocks(grad_tokens) if need_tokens else None
    grad_gains = grad_shares = total = None
    for number, g in enumerate(token_blocks(grad)):
        centred, mean, rstd, shifts = saved[4 * number : 4 * number + 4]
        by_centred = g * centred
        sum_g = of_gains @ g.T
        normed = (of_gains @ by_centred.T).addcmul_(mean, sum_g, value=-1).mul_(rstd)
        if need_weight:
            by_shift = shifts @ g
            grad_gains, sums = add(grad_gains, (rstd @ by_centred).sub_(by_shift[:-1])), by_shift[-1]
        else:
            sums = g.sum(0)
        if need_tokens:
            slope = (normed * rstd).mul_(rstd).neg_()
            offset = (slope * mean).addcmul_(rstd, sum_g).neg_()
            part = torch.mm(offset.T, share_averages, out=targets[number])
            part.addcmul_(centred, slope.T @ share_averages).addcmul_(g, rstd.T @ gains)
        if need_bias or need_shares:
            total = add(total, sums)
        if need_shares:
            grad_shares = add(grad_shares, normed.sum(1))
    return (
        grad_tokens,
        (share_inside * grad_gains).sum(0) if need_weight else None,
        total * share_inside.sum(0) if need_bias else None,
        torch.addmv(grad_shares, inside, total * bias) if need_shares else None,
        *(None,) * 5,
    )


def token_blocks(tokens: Tensor) -> tuple[Tensor, ...]:
    """The tokens in blocks small enough for the cache of a CPU; one block on a GPU, which does not need this."""
    step = max(1, BLOCK_BYTES // (tokens.shape[1] * tokens.element_size()))
    if len(tokens) <= step or tokens.device.type != "cpu":
        return (tokens,)
    return tokens.split(step)


def add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)
