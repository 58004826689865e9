"""Layer norms of several nested widths at once."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


BLOCK_BYTES = 2**20  # of a block of tokens on a CPU: its temporaries stay in the cache


def superpose_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, shares: Tensor, widths: tuple[int, ...], eps: float):
    """Layer norms of all widths in one pass: `sum_e shares[e] pad(LN_e(x[..., :e]))`, statistics over the first e units.

    The sum is affine in x, `x * sum_e a_e/sigma_e - sum_e a_e mu_e/sigma_e` over the widths that contain the unit, so K
    widths cost hardly more than one.

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
    # Numbers per width and token are (K, tokens): that side round, products with a (K, E) table are several times faster
    # on a CPU. Gains are in the tables already, which saves passes over the tokens.
    @staticmethod
    def forward(ctx, x, weight, bias, shares, widths, eps):
        tokens = x.reshape(-1, widths[-1])
        inside, averages = _tables(widths, x)
        gains, add = inside * shares[:, None] * weight, bias * (shares @ inside)
        out, statistics = torch.empty_like(tokens), []
        for rows in _blocks(tokens):
            shift, centred, mean, rstd = _nested_statistics(tokens[rows], averages, eps)
            part = torch.mm(rstd.T, gains, out=out[rows]).mul_(centred)
            part.addmm_((rstd * mean).T, gains, alpha=-1).add_(add)
            statistics.append((shift, mean, rstd))
        statistics = (torch.cat(parts, -1) for parts in zip(*statistics, strict=True))
        ctx.save_for_backward(tokens, weight, bias, shares, inside, averages, *statistics)
        return out.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        tokens, weight, bias, shares, inside, averages, *statistics = ctx.saved_tensors
        need_x, need_weight, need_bias, need_shares, *_ = ctx.needs_input_grad
        grads = grad.reshape(tokens.shape)
        nested, of_gains = inside * shares[:, None], inside * weight
        gains, shares_of_mean = nested * weight, averages * shares[:, None]
        grad_x = torch.empty_like(tokens) if need_x else None
        grad_gains, grad_shares, total = torch.zeros_like(gains), torch.zeros_like(shares), torch.zeros_like(bias)
        for rows in _blocks(tokens):
            g, (shift, mean, rstd) = grads[rows], (t[..., rows] for t in statistics)
            centred = tokens[rows] - shift[:, None]
            by_centred = g * centred
            # Sums over the units of each width, of grad * gain and of grad * gain * x: all that a layer norm's backward needs.
            sum_g, sum_gx = of_gains @ g.T, of_gains @ by_centred.T
            normed = (sum_gx - mean * sum_g) * rstd
            if need_weight:
                grad_gains.addmm_(rstd, by_centred).addmm_(rstd * mean, g, alpha=-1)
            if need_x:
                slope = -rstd.square() * normed
                part = torch.mm(slope.T, shares_of_mean, out=grad_x[rows]).mul_(centred)
                part.addmm_((mean * slope + rstd * sum_g).T, shares_of_mean, alpha=-1)
                part.addcmul_(g, torch.mm(rstd.T, gains, out=centred))
            if need_bias or need_shares:
                total += g.sum(0)
            if need_shares:
                grad_shares += normed.sum(1)
        return (
            grad_x.view_as(grad) if need_x else None,
            (nested * grad_gains).sum(0) if need_weight else None,
            total * nested.sum(0) if need_bias else None,
            grad_shares + inside @ (total * bias) if need_shares else None,
            None,
            None,
        )


def _tables(widths: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """Which units every width has, and the same divided by the width, so that a product is a mean; (K, E) each."""
    columns = torch.tensor(widths, device=like.device)[:, None]
    inside = (torch.arange(widths[-1], device=like.device) < columns).to(like.dtype)
    return inside, inside / columns


def _blocks(tokens: Tensor) -> list[slice]:
    """Blocks of tokens: passes over a small block hit the cache, which a GPU and the compiler have no need of."""
    count, width = tokens.shape
    if tokens.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(0, count)]
    step = max(1, BLOCK_BYTES // (width * tokens.element_size()))
    return [slice(start, start + step) for start in range(0, max(count, 1), step)]


def _nested_statistics(x: Tensor, averages: Tensor, eps: float) -> tuple[Tensor, ...]:
    """Statistics of the first e units, for every width e.

    Sums of x and of x^2, after subtracting the mean of the narrowest width. That keeps `E[x^2] - E[x]^2` from cancelling:
    the narrowest width is part of every other, so its mean is off theirs by a few of their standard deviations at most.

    Args:
        x: (tokens, E).
        averages: Units -> means of widths (K, E).
        eps: Added to the variances.

    Returns:
        The shift (tokens,), x - shift (tokens, E), and of the shifted values mean and 1/std, (K, tokens) each.
    """
    shift = averages[0] @ x.T
    centred = x - shift[:, None]
    mean = averages @ centred.T
    squares = averages @ centred.square().T
    return shift, centred, mean, (squares - mean.square() + eps).rsqrt()
