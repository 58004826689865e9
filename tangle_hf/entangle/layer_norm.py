"""Layer norms of several nested widths at once."""

from math import gcd

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


BLOCK_BYTES = 2**21  # of a block of tokens on a CPU: its temporaries stay in the cache


def superpose_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, shares: Tensor, widths: tuple[int, ...], eps: float):
    """Layer norms of all widths in one pass: `sum_e shares[e] pad(LN_e(x[..., :e]))`, statistics over the first e units.

    Between two neighbouring widths the sum is affine in x: `x * sum_e a_e/sigma_e - sum_e a_e mu_e/sigma_e` over the
    widths that contain the unit, so K widths cost hardly more than one.

    Args:
        x: (..., E).
        weight: Gains (E,).
        bias: (E,).
        shares: (K,).
        widths: K strictly ascending widths, the last one E.
        eps: Added to the variances.

    Returns:
        (..., E), in float32 under autocast as `torch.nn.LayerNorm` does, else in the type of x.
    """
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        out = _SuperposedLayerNorm.apply(
            x.to(dtype), weight.to(dtype), bias.to(dtype), shares.to(dtype), tuple(widths), eps
        )
    return out if autocast else out.to(x.dtype)


class _SuperposedLayerNorm(torch.autograd.Function):
    # A row of x is cut into C chunks as long as the greatest common divisor of the widths, so that every width is a number
    # of whole chunks: `inside` (C, K) says which. Sums over a width are sums over chunks, then a product with it; a number
    # per width becomes one per chunk by a product with `nested` (K, C), the shares of the widths that contain the chunk.
    @staticmethod
    def forward(ctx, x, weight, bias, shares, widths, eps):
        chunk = gcd(*widths)
        inside = _inside(widths, chunk, x)
        chunks = x.reshape(-1, len(inside), chunk)
        nested = (inside * shares).T
        gain, add = weight.view(-1, chunk), bias.view(-1, chunk) * nested.sum(0)[:, None]
        averages = inside / x.new_tensor(widths)
        out, statistics = torch.empty_like(chunks), []
        for rows in _blocks(chunks):
            shift, centred, mean, rstd = _nested_statistics(chunks[rows], averages, eps)
            torch.mul(centred, (rstd @ nested)[..., None], out=centred).sub_(((rstd * mean) @ nested)[..., None])
            torch.addcmul(add, centred, gain, out=out[rows])
            statistics.append((shift, mean, rstd))
        ctx.save_for_backward(chunks, weight, bias, inside, nested, *map(torch.cat, zip(*statistics, strict=True)))
        ctx.widths = widths
        return out.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        chunks, weight, bias, inside, nested, *statistics = ctx.saved_tensors
        need_x, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
        grads, gain, chunk = grad.reshape(chunks.shape), weight.view(chunks.shape[1:]), chunks.shape[-1]
        per_width = nested / chunks.new_tensor(ctx.widths)[:, None]
        grad_x = torch.empty_like(chunks) if need_x else None
        grad_weight, grad_shares, total = torch.zeros_like(gain), torch.zeros_like(inside[0]), torch.zeros_like(gain)
        for rows in _blocks(chunks):
            g, (shift, mean, rstd) = grads[rows], (t[rows] for t in statistics)
            centred = chunks[rows] - shift
            # Sums over the units of each width, of grad * gain and of grad * gain * x: all that a layer norm's backward needs.
            gained = g * gain
            sum_g, sum_gx = gained.sum(-1) @ inside, (gained * centred).sum(-1) @ inside
            normed = (sum_gx - mean * sum_g) * rstd
            scale = (rstd @ nested)[..., None]
            if need_x:
                slope = rstd.square() * normed
                offset = (mean * slope - rstd * sum_g) @ per_width
                part = torch.mul(centred, (slope @ -per_width)[..., None], out=grad_x[rows])
                part.add_(offset[..., None]).addcmul_(gained, scale)
            if need_weight:
                centred.mul_(scale).sub_(((rstd * mean) @ nested)[..., None])
                grad_weight += centred.mul_(g).sum(0)
            if need_bias or need_shares:
                total += g.sum(0)
            if need_shares:
                grad_shares += normed.sum(0)
        return (
            grad_x.view_as(grad) if need_x else None,
            grad_weight.flatten() if need_weight else None,
            (total * nested.sum(0)[:, None]).flatten() if need_bias else None,
            grad_shares + (total * bias.view(-1, chunk)).sum(-1) @ inside if need_shares else None,
            None,
            None,
        )


def _inside(widths: tuple[int, ...], chunk: int, like: Tensor) -> Tensor:
    return like.new_tensor([[float(start < width) for width in widths] for start in range(0, widths[-1], chunk)])


def _blocks(chunks: Tensor) -> list[slice]:
    """Blocks of rows: passes over a small block hit the cache, which a GPU and the compiler have no need of."""
    rows = len(chunks)
    if chunks.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(0, rows)]
    step = max(1, BLOCK_BYTES // (chunks[0].numel() * chunks.element_size())) if rows else 1
    return [slice(start, start + step) for start in range(0, max(rows, 1), step)]


def _nested_statistics(x: Tensor, averages: Tensor, eps: float) -> tuple[Tensor, ...]:
    """Statistics of the first e units, for every width e.

    Sums of x and of x^2, after subtracting the mean of the narrowest width. That keeps `E[x^2] - E[x]^2` from cancelling:
    the narrowest width is part of every other, so its mean is off theirs by a few of their standard deviations at most.

    Args:
        x: (tokens, C, chunk).
        averages: Sums of chunks -> means of widths (C, K).
        eps: Added to the variances.

    Returns:
        The shift (tokens, 1, 1), x - shift, and of the shifted values mean and 1/std, (tokens, K) each.
    """
    shift = (x.sum(-1) @ averages[:, :1])[..., None]
    centred = x - shift
    mean = centred.sum(-1) @ averages
    squares = torch.linalg.vector_norm(centred, dim=-1).square() @ averages
    return shift, centred, mean, (squares - mean.square() + eps).rsqrt()
