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
    # Segments: the units between two neighbouring widths. All of them belong to the same set of widths. `nested` (K, K)
    # holds the shares of the widths that contain each segment: numbers per width times it are sums per segment.
    @staticmethod
    def forward(ctx, x, weight, bias, shares, widths, eps):
        flat = x.reshape(-1, x.shape[-1])
        sizes = [hi - lo for lo, hi in zip((0, *widths), widths, strict=False)]
        shift, centred, mean, rstd = _nested_statistics(flat, sizes, widths, eps)
        nested = torch.tril(shares[:, None].expand(-1, len(widths)))
        ctx.save_for_backward(flat, weight, bias, nested, shift, mean, rstd)
        ctx.sizes, ctx.widths = sizes, widths
        scale, offset = (t.split(1, -1) for t in (rstd @ nested, (rstd * mean) @ -nested))
        live = nested.sum(0)
        parts = zip(*(t.split(sizes, -1) for t in (centred, weight, bias)), scale, offset, live, strict=True)
        for part, gain, add, times, plus, share in parts:
            _addcmul_into(part, plus, part, times)
            _addcmul_into(part, add * share, part, gain)
        return centred.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, weight, bias, nested, shift, mean, rstd = ctx.saved_tensors
        need_x, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
        sizes, g = ctx.sizes, grad.reshape(flat.shape)
        centred = flat - shift
        product = g * centred
        gains = weight.split(sizes)
        # Sums over the units of each width, of grad * gain and of grad * gain * x: all that a layer norm's backward needs.
        sum_g, sum_gx = (
            torch.stack([part @ gain for part, gain in zip(t.split(sizes, -1), gains, strict=True)], -1).cumsum(-1)
            for t in (g, product)
        )
        normed = (sum_gx - mean * sum_g) * rstd
        scale = rstd @ nested
        grad_x = grad_weight = grad_bias = grad_shares = None
        if need_weight:
            parts = zip(scale.T, ((rstd * mean) @ nested).T, product.split(sizes, -1), g.split(sizes, -1), strict=True)
            grad_weight = torch.cat([times @ gx - plus @ part for times, plus, gx, part in parts])
        if need_x:
            slope = rstd.square() * normed
            per_width = nested / flat.new_tensor(ctx.widths)[:, None]
            offset, slope = (mean * slope - rstd * sum_g) @ per_width, slope @ -per_width
            torch.mul(g, weight, out=product)
            per_segment = (t.split(1, -1) for t in (offset, slope, scale))
            parts = zip(centred.split(sizes, -1), product.split(sizes, -1), *per_segment, strict=True)
            for part, scaled, plus, times, by in parts:
                _addcmul_into(part, plus, part, times)
                part.addcmul_(scaled, by)
            grad_x = centred.view_as(grad)
        if need_bias or need_shares:
            total = g.sum(0)
        if need_bias:
            parts = zip(total.split(sizes), nested.sum(0), strict=True)
            grad_bias = torch.cat([part * share for part, share in parts])
        if need_shares:
            by_bias = [part.sum() for part in (total * bias).split(sizes)]
            grad_shares = normed.sum(0) + torch.stack(by_bias).cumsum(0)
        return grad_x, grad_weight, grad_bias, grad_shares, None, None


def _addcmul_into(target: Tensor, start: Tensor, a: Tensor, b: Tensor) -> None:
    """`target = start + a * b` in one pass; the compiler knows no `out=` that is not contiguous, and fuses without it."""
    if torch.compiler.is_compiling():
        target.copy_(torch.addcmul(start, a, b))
    else:
        torch.addcmul(start, a, b, out=target)


def _nested_statistics(x: Tensor, sizes: list[int], widths: tuple[int, ...], eps: float) -> tuple[Tensor, ...]:
    """Statistics of the first e units, for every width e.

    Sums of x and of x^2, after subtracting the mean of the narrowest width. That keeps `E[x^2] - E[x]^2` from cancelling:
    the narrowest width is part of every other, so its mean is off theirs by a few of their standard deviations at most.

    Returns:
        The shift (tokens, 1), x - shift (tokens, E), and of the shifted values mean and 1/std, (tokens, K) each.
    """
    width = x.new_tensor(widths)
    shift = x[:, : widths[0]].mean(-1, keepdim=True)
    centred = x - shift
    parts = centred.split(sizes, -1)
    mean = torch.stack([part.sum(-1) for part in parts], -1).cumsum(-1) / width
    squares = torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts], -1).square().cumsum(-1)
    return shift, centred, mean, (squares / width - mean.square() + eps).rsqrt()
