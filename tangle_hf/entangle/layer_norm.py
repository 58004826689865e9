"""Layer norms of several nested widths at once."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    # Segments: the units between two neighbouring widths. All of them belong to the same set of widths.
    @staticmethod
    def forward(ctx, x, weight, bias, shares, widths, eps):
        flat = x.reshape(-1, x.shape[-1])
        shift, centred, mean, rstd = _nested_statistics(flat, widths, eps)
        # (K, K): the shares of the widths that contain each segment. Numbers per width times it are sums per segment.
        nested = torch.tril(shares[:, None].expand(-1, len(widths)))
        scale, offset, live = rstd @ nested, (rstd * mean) @ -nested, nested.sum(0)
        for s, (lo, hi) in enumerate(_segments(widths)):
            part = centred[:, lo:hi]
            _addcmul_into(part, offset[:, s : s + 1], part, scale[:, s : s + 1])
            _addcmul_into(part, bias[lo:hi] * live[s], part, weight[lo:hi])
        ctx.save_for_backward(flat, weight, bias, nested, shift, mean, rstd)
        ctx.widths = widths
        return centred.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, weight, bias, nested, shift, mean, rstd = ctx.saved_tensors
        need_x, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
        widths, g = ctx.widths, grad.reshape(flat.shape)
        segments = list(_segments(widths))
        centred = flat - shift
        product = g * centred
        # Sums over the units of each width, of grad * gain and of grad * gain * x: all that a layer norm's backward needs.
        sum_g = torch.stack([g[:, lo:hi] @ weight[lo:hi] for lo, hi in segments], -1).cumsum(-1)
        sum_gx = torch.stack([product[:, lo:hi] @ weight[lo:hi] for lo, hi in segments], -1).cumsum(-1)
        normed = (sum_gx - mean * sum_g) * rstd
        scale = rstd @ nested
        grad_x = grad_weight = grad_bias = grad_shares = None
        if need_weight:
            offset = (rstd * mean) @ nested
            grad_weight = torch.cat(
                [scale[:, s] @ product[:, lo:hi] - offset[:, s] @ g[:, lo:hi] for s, (lo, hi) in enumerate(segments)]
            )
        if need_x:
            per_width = nested / flat.new_tensor(widths)[:, None]
            slope = rstd.square() * normed
            offset, slope = (mean * slope - rstd * sum_g) @ per_width, slope @ -per_width
            torch.mul(g, weight, out=product)
            for s, (lo, hi) in enumerate(segments):
                part = centred[:, lo:hi]
                _addcmul_into(part, offset[:, s : s + 1], part, slope[:, s : s + 1])
                part.addcmul_(product[:, lo:hi], scale[:, s : s + 1])
            grad_x = centred.view_as(grad)
        if need_bias or need_shares:
            total = g.sum(0)
        if need_bias:
            live = nested.sum(0)
            grad_bias = torch.cat([total[lo:hi] * live[s] for s, (lo, hi) in enumerate(segments)])
        if need_shares:
            by_bias = torch.stack([total[lo:hi] @ bias[lo:hi] for lo, hi in segments]).cumsum(0)
            grad_shares = normed.sum(0) + by_bias
        return grad_x, grad_weight, grad_bias, grad_shares, None, None


def _addcmul_into(target: Tensor, start: Tensor, a: Tensor, b: Tensor) -> None:
    """`target = start + a * b` in one pass; the compiler knows no `out=` that is not contiguous, and fuses without it."""
    if torch.compiler.is_compiling():
        target.copy_(torch.addcmul(start, a, b))
    else:
        torch.addcmul(start, a, b, out=target)


def _segments(widths: tuple[int, ...]):
    return zip((0, *widths[:-1]), widths, strict=True)


def _nested_statistics(x: Tensor, widths: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Statistics of the first e units, for every width e.

    Sums of x and of x^2, after subtracting the mean of the narrowest width. That keeps `E[x^2] - E[x]^2` from cancelling:
    the narrowest width is part of every other, so its mean is off theirs by a few of their standard deviations at most.

    Returns:
        The shift (tokens, 1), x - shift (tokens, E), and of the shifted values mean and 1/std, (tokens, K) each.
    """
    width = x.new_tensor(widths)
    shift = x[:, : widths[0]].mean(-1, keepdim=True)
    centred = x - shift
    parts = [centred[:, lo:hi] for lo, hi in _segments(widths)]
    mean = torch.stack([part.sum(-1) for part in parts], -1).cumsum(-1) / width
    squares = torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts], -1).square().cumsum(-1)
    return shift, centred, mean, (squares / width - mean.square() + eps).rsqrt()
