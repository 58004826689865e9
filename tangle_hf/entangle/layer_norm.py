"""Layer norms of several nested widths at once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .fused_layer_norm import FusedLayerNorm


BLOCK_BYTES = 2**20  # of a block of tokens on a CPU: its temporaries stay in the cache


class NestedWidths(NamedTuple):
    """Nested widths and their shares, as all layer norms of a step need them; see `nested_widths`.

    sizes: K strictly ascending widths, the last one E.
    shares: (K,).
    inside: Which units every width has, (K, E), zeros and ones.
    averages: The same divided by the width: a product with it is a mean.
    share_inside: `inside` times the shares, without a gradient.
    share_averages: `averages` likewise.
    """

    sizes: tuple[int, ...]
    shares: Tensor
    inside: Tensor
    averages: Tensor
    share_inside: Tensor
    share_averages: Tensor


def nested_widths(sizes: tuple[int, ...], shares: Tensor) -> NestedWidths:
    """What layer norms need to know of a mixture over widths, made once for all of them, in float32 at least.

    Args:
        sizes: K strictly ascending widths, the last one of the whole input.
        shares: (K,).
    """
    shares = shares.to(torch.promote_types(shares.dtype, torch.float32))
    columns, fixed = torch.tensor(sizes, device=shares.device)[:, None], shares.detach()[:, None]
    inside = (torch.arange(sizes[-1], device=shares.device) < columns).to(shares.dtype)
    averages = inside / columns
    return NestedWidths(tuple(sizes), shares, inside, averages, inside * fixed, averages * fixed)


def superpose_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, widths: NestedWidths, eps: float) -> Tensor:
    """Layer norms of all widths in one pass: `sum_e shares[e] pad(LN_e(x[..., :e]))`, statistics over the first e units.

    The sum is affine in x, `x * sum_e a_e/sigma_e - sum_e a_e mu_e/sigma_e` over the widths that contain the unit, so K
    widths cost hardly more than one.

    Args:
        x: (..., E).
        weight: Gains (E,).
        bias: (E,).
        widths: K widths, and their shares.
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
    # On a CPU a small input costs its calls and a large one its passes over memory, so that both are few. Numbers per
    # width and token are (K, tokens): that side round, products with a (K, E) table are several times faster.
    @staticmethod
    def forward(ctx, tokens, weight, bias, shares, inside, averages, share_inside, share_averages, eps):
        gains = share_inside * weight
        table = torch.cat([-gains, (share_inside.sum(0) * bias)[None]])
        out, saved = torch.empty_like(tokens), []
        for rows, target in zip(_blocks(tokens), _blocks(out), strict=True):
            mean = averages @ rows.T
            # Of values less the mean of the narrowest width E[x^2] - E[x]^2 does not cancel: that width is part of every
            # other, and its mean is off theirs by a few of their standard deviations at most.
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


def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    weight, bias, inside, share_inside, share_averages, gains, *saved = ctx.saved_tensors
    need_tokens, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
    of_gains = inside * weight
    grad_tokens = torch.empty_like(grad) if need_tokens else None
    targets = _blocks(grad_tokens) if need_tokens else None
    grad_gains = grad_shares = total = None
    for number, g in enumerate(_blocks(grad)):
        centred, mean, rstd, shifts = saved[4 * number : 4 * number + 4]
        # Sums over the units of each width, of grad * gain and of grad * gain * normed: all that a layer norm needs.
        by_centred = g * centred
        sum_g = of_gains @ g.T
        normed = (of_gains @ by_centred.T).addcmul_(mean, sum_g, value=-1).mul_(rstd)
        if need_weight:
            by_shift = shifts @ g
            grad_gains, sums = _add(grad_gains, (rstd @ by_centred).sub_(by_shift[:-1])), by_shift[-1]
        else:
            sums = g.sum(0)
        if need_tokens:
            slope = (normed * rstd).mul_(rstd).neg_()
            offset = (slope * mean).addcmul_(rstd, sum_g).neg_()
            part = torch.mm(offset.T, share_averages, out=targets[number])
            part.addcmul_(centred, slope.T @ share_averages).addcmul_(g, rstd.T @ gains)
        if need_bias or need_shares:
            total = _add(total, sums)
        if need_shares:
            grad_shares = _add(grad_shares, normed.sum(1))
    return (
        grad_tokens,
        (share_inside * grad_gains).sum(0) if need_weight else None,
        total * share_inside.sum(0) if need_bias else None,
        torch.addmv(grad_shares, inside, total * bias) if need_shares else None,
        *(None,) * 5,
    )


def _blocks(tokens: Tensor) -> tuple[Tensor, ...]:
    """Blocks of tokens: passes over a small block hit the cache, which a GPU has no need of."""
    step = max(1, BLOCK_BYTES // (tokens.shape[1] * tokens.element_size()))
    if len(tokens) <= step or tokens.device.type != "cpu":
        return (tokens,)
    return tokens.split(step)


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)
