"""RMS norms of several nested widths at once."""

from itertools import accumulate

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layer_norm import NestedWidths, add, token_blocks


def superpose_rms_norm(x: Tensor, weight: Tensor, widths: NestedWidths, eps: float) -> Tensor:
    """The RMS norms (arXiv:1910.07467) of all widths, each over its own first units, as one share-weighted sum::

        y = sum_k shares[k] pad(RMSNorm(x[..., :sizes[k]]))                 pad appends zeros
        y[i] = weight[i] x[i] sum_{k: i < sizes[k]} shares[k] rstd_k        rstd_k = (mean_{j < sizes[k]} x[j]^2 + eps)^-0.5

    One factor per unit and token, however many widths there are.

    Args:
        x: (..., E).
        weight: Gains (E,).
        widths: K widths and their shares.
        eps: Added to the mean squares.

    Returns:
        (..., E), in the wider type of x and the weight, as the norms of transformers give it.
    """
    sizes, shares, *tables = widths
    dtype = torch.promote_types(x.dtype, weight.dtype)
    tokens, gains = x.reshape(-1, sizes[-1]).to(shares.dtype), weight.to(shares.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling():
            out = _by_segments(tokens, gains, shares, sizes, eps)
        else:
            out = _SuperposedRMSNorm.apply(tokens, gains, shares, *tables, eps)
    return out.to(dtype).view_as(x)


class _SuperposedRMSNorm(torch.autograd.Function):
    # As in the layer norm: few calls, few passes over memory, numbers per width and token as (K, tokens).
    @staticmethod
    def forward(ctx, tokens, weight, shares, inside, averages, share_inside, share_averages, eps):
        gains = share_inside * weight
        out, saved = torch.empty_like(tokens), []
        for rows, target in zip(token_blocks(tokens), token_blocks(out), strict=True):
            rstd = (averages @ rows.square().T).add_(eps).rsqrt_()
            torch.mm(rstd.T, gains, out=target).mul_(rows)
            saved.append(rstd)
        ctx.save_for_backward(tokens, weight, inside, share_inside, share_averages, gains, *saved)
        return out

    # For g = dL/dy, token t, unit i and width k, with the names of the code (`shares` and `size` are of width k):
    #
    #     y[t, i]          = tokens[t, i] sum_k gains[k, i] rstd[k, t],              gains = shares inside weight
    #     by_rows[t, i]    = g[t, i] tokens[t, i]
    #     slope[k, t]      = sum_i inside[k, i] weight[i] by_rows[t, i]              dL/d(shares rstd)
    #     dL/dtokens[t, i] = g[t, i] sum_k gains[k, i] rstd[k, t]
    #                        - tokens[t, i] sum_k share_averages[k, i] rstd[k, t]^3 slope[k, t]
    #     dL/dweight[i]    = sum_k shares inside[k, i] sum_t rstd[k, t] by_rows[t, i]
    #     dL/dshares[k]    = sum_t rstd[k, t] slope[k, t]
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        tokens, weight, inside, share_inside, share_averages, gains, *saved = ctx.saved_tensors
        need_tokens, need_weight, need_shares, *_ = ctx.needs_input_grad
        of_gains = inside * weight
        grad_tokens = torch.empty_like(grad) if need_tokens else None
        targets = token_blocks(grad_tokens) if need_tokens else None
        grad_gains = grad_shares = None
        with torch.autocast(grad.device.type, enabled=False):  # backward() may be called where it is on
            for number, (g, rows) in enumerate(zip(token_blocks(grad), token_blocks(tokens), strict=True)):
                rstd, by_rows = saved[number], g * rows
                slope = (of_gains @ by_rows.T).mul_(rstd)
                if need_weight:
                    grad_gains = add(grad_gains, rstd @ by_rows)
                if need_shares:
                    grad_shares = add(grad_shares, slope.sum(1))
                if need_tokens:
                    part = torch.mm(slope.mul_(rstd).mul_(rstd).neg_().T, share_averages, out=targets[number])
                    part.mul_(rows).addcmul_(g, rstd.T @ gains)
        grad_weight = (share_inside * grad_gains).sum(0) if need_weight else None
        return grad_tokens, grad_weight, grad_shares, *(None,) * 5


def _by_segments(tokens: Tensor, weight: Tensor, shares: Tensor, sizes: tuple[int, ...], eps: float) -> Tensor:
    """The same for a compiler, which makes one loop of it: units between two neighbouring widths have one factor."""
    counts = [b - a for a, b in zip((0, *sizes), sizes, strict=False)]
    parts, gains = tokens.split(counts, 1), weight.split(counts)
    squares = accumulate(part.square().sum(1, keepdim=True) for part in parts)
    scaled = [a * (s / e + eps).rsqrt() for a, s, e in zip(shares, squares, sizes, strict=True)]
    factors = list(accumulate(reversed(scaled)))[::-1]
    return torch.cat([part * factor * gain for part, factor, gain in zip(parts, factors, gains, strict=True)], 1)
