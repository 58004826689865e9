"""The layer norm of `layer_norm.py` for a compiler: the same numbers by the units between neighbouring widths.

Written out unit by unit, which a compiler makes one loop of. Run without one, each line is several passes over memory.
"""

from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class FusedLayerNorm(torch.autograd.Function):
    """`sum_e shares[e] pad(LN_e(x[:, :e]))` of tokens (T, E), the arguments of `superpose_layer_norm`.

    Between two widths the sum is `(x * scale - shift) * weight + bias * part`, one number per token each, added up over the
    widths that have these units.
    """

    @staticmethod
    def forward(ctx, tokens, weight, bias, shares, sizes, eps):
        centred = tokens - tokens[:, : sizes[0]].mean(1, keepdim=True)  # see `_SuperposedLayerNorm`
        mean = [s / e for s, e in zip(_sums(centred, sizes), sizes, strict=True)]
        squares = [s / e for s, e in zip(_sums(centred.square(), sizes), sizes, strict=True)]
        rstd = [(s - m.square() + eps).rsqrt() for s, m in zip(squares, mean, strict=True)]
        ctx.sizes = sizes
        ctx.save_for_backward(centred, weight, bias, shares, torch.cat(mean, 1), torch.cat(rstd, 1))
        scale = _wider(a * r for a, r in zip(shares, rstd, strict=True))
        shift = _wider(a * r * m for a, r, m in zip(shares, rstd, mean, strict=True))
        parts = zip(*_between(sizes, centred, weight, bias), scale, shift, _wider(shares), strict=True)
        return torch.cat([(x * s - t) * w + b * p for x, w, b, s, t, p in parts], 1)

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
    """The units between neighbouring widths, of each tensor."""
    counts = [b - a for a, b in zip((0, *sizes), sizes, strict=False)]
    return [tensor.split(counts, -1) for tensor in tensors]


def _sums(rows: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Sums over the units of each width, (T, 1) for each."""
    return list(accumulate(part.sum(1, keepdim=True) for part in _between(sizes, rows)[0]))


def _wider(values: Iterable[Tensor]) -> list[Tensor]:
    """For the units between two widths: the sum over the widths that have them."""
    return list(accumulate(reversed(list(values))))[::-1]
