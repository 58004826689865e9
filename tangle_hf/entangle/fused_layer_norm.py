"""The superposed layer norm for a compiler: the result of `layer_norm.py`, computed segment by segment.

A segment is the units between two neighbouring widths; all of them are in the same widths. It is written unit by unit, which a
compiler turns into one loop. Without a compiler each line would be several passes over memory.
"""

from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class FusedLayerNorm(torch.autograd.Function):
    """The layer norms of all widths of tokens (T, E), summed with their shares: `sum_k shares[k] pad(LN(x[:, :sizes[k]]))`.

    In a segment it is `(x * scale - shift) * weight + bias * part`. `scale` and `shift` are one number per token, `part` is one
    number, and each is a sum over the widths that contain the segment.
    """

    @staticmethod
    def forward(ctx, tokens, weight, bias, shares, sizes, eps):
        centred = tokens - tokens[:, : sizes[0]].mean(1, keepdim=True)  # for exact variances
        mean = [s / e for s, e in zip(_sums(centred, sizes), sizes, strict=True)]
        squares = [s / e for s, e in zip(_sums(centred.square(), sizes), sizes, strict=True)]
        rstd = [(s - m.square() + eps).rsqrt() for s, m in zip(squares, mean, strict=True)]
        ctx.sizes = sizes
        ctx.save_for_backward(centred, weight, bias, shares, torch.cat(mean, 1), torch.cat(rstd, 1))
        scale = _wider(a * r for a, r in zip(shares, rstd, strict=True))
        shift = _wider(a * r * m for a, r, m in zip(shares, rstd, mean, strict=True))
        parts = zip(*_between(sizes, centred, weight, bias), scale, shift, _wider(shares), strict=True)
        return torch.cat([(x * s - t) * w + b * p for x, w, b, s, t, p in parts], 1)

    # For g = dL/dy, token t, unit i and width k, with the names of the code. `shares` and `size` are of width k, whose units
    # are i < size. wider(v) is, for each unit, the sum of v[k] over the widths that contain it:
    #
    #     n[k, t, i]       = (centred[t, i] - mean[k, t]) rstd[k, t]                 the normed input of width k
    #     y[t, i]          = (centred[t, i] scale[t, i] - shift[t, i]) weight[i] + bias[i] part[i]
    #                        scale = wider(shares rstd),  shift = wider(shares rstd mean),  part = wider(shares)
    #
    #     of_gains[t, i]   = g[t, i] weight[i]
    #     sum_g[k, t]      = sum_{i < size} of_gains[t, i]                           sums[0]
    #     sum_gx[k, t]     = sum_{i < size} of_gains[t, i] centred[t, i]             sums[1]
    #     normed[k, t]     = sum_{i < size} of_gains[t, i] n[k, t, i] = (sum_gx - mean sum_g) rstd
    #     dL/dtokens[t, i] = sum_{k: i < size} shares rstd[k, t] (of_gains[t, i] - (sum_g[k, t] + n[k, t, i] normed[k, t])/size)
    #                      = of_gains[t, i] scale[t, i] - centred[t, i] wider(slope)[t, i] + wider(offset)[t, i]
    #                        of_mean = shares rstd / size,  slope = of_mean rstd normed,  offset = slope mean - of_mean sum_g
    #     dL/dweight[i]    = sum_t g[t, i] (centred[t, i] scale[t, i] - shift[t, i])
    #     dL/dbias[i]      = total[i] part[i],                                       total[i] = sum_t g[t, i]
    #     dL/dshares[k]    = sum_t normed[k, t] + sum_{i < size} bias[i] total[i]
    #
    # `centred` is `tokens` less one number per token. No n depends on that number, so the gradients of both are equal.
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        centred, weight, bias, shares, mean, rstd = ctx.saved_tensors
        sizes, (need_tokens, need_weight, need_bias, need_shares, *_) = ctx.sizes, ctx.needs_input_grad
        mean, rstd = mean.split(1, 1), rstd.split(1, 1)
        scale = _wider(a * r for a, r in zip(shares, rstd, strict=True))
        of_gains = grad * weight
        sums = _sums(of_gains, sizes), _sums(of_gains * centred, sizes)
        normed = [(gx - m * g) * r for g, gx, m, r in zip(*sums, mean, rstd, strict=True)]
        grad_tokens = grad_weight = grad_bias = grad_shares = None
        if need_tokens:
            of_mean = [a / e * r for a, e, r in zip(shares, sizes, rstd, strict=True)]
            slope = [a * r * n for a, r, n in zip(of_mean, rstd, normed, strict=True)]
            offset = [s * m - a * g for s, m, a, g in zip(slope, mean, of_mean, sums[0], strict=True)]
            parts = zip(*_between(sizes, of_gains, centred), scale, _wider(slope), _wider(offset), strict=True)
            grad_tokens = torch.cat([g * a - x * s + o for g, x, a, s, o in parts], 1)
        if need_weight:
            shift = _wider(a * r * m for a, r, m in zip(shares, rstd, mean, strict=True))
            parts = zip(*_between(sizes, grad, centred), scale, shift, strict=True)
            grad_weight = torch.cat([(g * (x * s - t)).sum(0) for g, x, s, t in parts])
        if need_bias or need_shares:
            total = grad.sum(0)
        if need_bias:
            grad_bias = torch.cat([t * p for t, p in zip(*_between(sizes, total), _wider(shares), strict=True)])
        if need_shares:
            of_bias = _sums((total * bias)[None], sizes)
            grad_shares = torch.stack([n.sum() + b.sum() for n, b in zip(normed, of_bias, strict=True)])
        return grad_tokens, grad_weight, grad_bias, grad_shares, None, None


def _between(sizes: tuple[int, ...], *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Each tensor cut into segments, the units between neighbouring widths."""
    counts = [b - a for a, b in zip((0, *sizes), sizes, strict=False)]
    return [tensor.split(counts, -1) for tensor in tensors]


def _sums(rows: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """The sum over the first `size` units for each size, K tensors (T, 1)."""
    return list(accumulate(part.sum(1, keepdim=True) for part in _between(sizes, rows)[0]))


def _wider(values: Iterable[Tensor]) -> list[Tensor]:
    """For each segment the sum over the widths that contain it: those that end with the segment or behind it."""
    return list(accumulate(reversed(list(values))))[::-1]
