"""Superposition: one forward pass of full-sized tensors that stands for the share-weighted sum of all slices.

TangleNAS (arXiv:2312.10440, section 3 and algorithm 2) sums zero-padded slices of a weight, each times its share. The
sums are never formed one by one here: a sum of nested slices is one mask, and over two dimensions at once
(combi-superposition) one low-rank mask. `tests/oracle.py` holds the literal sums that every function is compared with.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def share_mask(membership: Tensor, *shares: Tensor) -> Tensor:
    """Share of the mixture that uses each unit of an axis, over all its dimensions at once::

        m[i] = sum_{j,k,...} shares_1[j] shares_2[k] ... membership[j, k, ..., i]

    Args:
        membership: Zeros and ones (K_1, ..., K_n, ..., size), see `tangle_hf.axes.membership`.
        shares: Rows (K_1,), ..., (K_n,), for the leading dimensions.

    Returns:
        Shape of `membership` without its first n axes; values in [0, 1]; differentiable in the shares.
    """
    for row in shares:
        membership = (row @ membership.flatten(1)).view(membership.shape[1:])
    return membership


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


def superpose_linear(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, columns: Tensor, bias_mask: Tensor
) -> Tensor:
    """A linear layer under combi-superposition of its weight (arXiv:2312.10440, algorithm 2)::

        y = x (weight * sum_k rows[k]^T columns[k]) + bias * bias_mask

    The mask is recomputed in the backward pass: nothing of the weight's size is kept in between.

    Args:
        x: (..., in).
        weight: (in, out), the layout of GPT-2's Conv1D.
        bias: (out,).
        rows: (k, in), the input side of the mask's factors.
        columns: (k, out), the output side.
        bias_mask: (out,).

    Returns:
        (..., out).
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        tensors = [t.to(dtype) for t in (x.flatten(0, -2), weight, bias, rows, columns, bias_mask)]
        return _SuperposedLinear.apply(*tensors).view(*x.shape[:-1], -1)


class _SuperposedLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, shares, widths, eps):
        flat = x.reshape(-1, x.shape[-1])
        mean, rstd = _nested_statistics(flat, widths, eps)
        scale = _from_the_right(shares * rstd)
        shift = _from_the_right(shares * rstd * mean)
        live = _from_the_right(shares)
        out = torch.empty_like(flat)
        for s, (lo, hi) in enumerate(_segments(widths)):
            part = torch.mul(flat[:, lo:hi], scale[:, s : s + 1], out=out[:, lo:hi])
            part.sub_(shift[:, s : s + 1]).mul_(weight[lo:hi]).add_(bias[lo:hi] * live[s])
        ctx.save_for_backward(flat, weight, bias, shares, mean, rstd)
        ctx.widths = widths
        return out.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, weight, bias, shares, mean, rstd = ctx.saved_tensors
        widths, g = ctx.widths, grad.reshape(flat.shape)
        segments = list(_segments(widths))
        product = g * flat
        # Sums over the units of each width, of grad * gain and of grad * gain * x: all that a layer norm's backward needs.
        sum_g = torch.stack([g[:, lo:hi] @ weight[lo:hi] for lo, hi in segments], -1).cumsum(-1)
        sum_gx = torch.stack([product[:, lo:hi] @ weight[lo:hi] for lo, hi in segments], -1).cumsum(-1)
        width = flat.new_tensor(widths)
        normed = (sum_gx - mean * sum_g) * rstd
        scaled = shares * rstd
        scale = _from_the_right(scaled)
        grad_x = grad_weight = grad_bias = grad_shares = None
        if ctx.needs_input_grad[0]:
            slope = _from_the_right(scaled * rstd * normed / width)
            offset = _from_the_right(scaled * (mean * rstd * normed - sum_g) / width)
            grad_x = g * weight
            for s, (lo, hi) in enumerate(segments):
                part = grad_x[:, lo:hi].mul_(scale[:, s : s + 1])
                part.addcmul_(flat[:, lo:hi], slope[:, s : s + 1], value=-1).add_(offset[:, s : s + 1])
            grad_x = grad_x.view_as(grad)
        total = g.sum(0)
        if ctx.needs_input_grad[1]:
            shift = _from_the_right(scaled * mean)
            grad_weight = torch.cat(
                [scale[:, s] @ product[:, lo:hi] - shift[:, s] @ g[:, lo:hi] for s, (lo, hi) in enumerate(segments)]
            )
        if ctx.needs_input_grad[2]:
            live = _from_the_right(shares)
            grad_bias = torch.cat([total[lo:hi] * live[s] for s, (lo, hi) in enumerate(segments)])
        if ctx.needs_input_grad[3]:
            by_bias = torch.stack([(total[lo:hi] * bias[lo:hi]).sum() for lo, hi in segments]).cumsum(0)
            grad_shares = normed.sum(0) + by_bias
        return grad_x, grad_weight, grad_bias, grad_shares, None, None


class _SuperposedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, rows, columns, bias_mask):
        ctx.save_for_backward(x, weight, bias, rows, columns, bias_mask)
        return torch.addmm(bias * bias_mask, x, (rows.T @ columns).mul_(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias, rows, columns, bias_mask = ctx.saved_tensors
        need_x, need_weight, need_bias, need_rows, need_columns, need_bias_mask = ctx.needs_input_grad
        mask = rows.T @ columns
        grad_x = grad @ (mask * weight).T if need_x else None
        grad_weight = grad_rows = grad_columns = None
        if need_weight or need_rows or need_columns:
            outer = x.T @ grad
            if need_rows or need_columns:
                by_mask = outer * weight
                grad_rows, grad_columns = columns @ by_mask.T, rows @ by_mask
            grad_weight = outer.mul_(mask) if need_weight else None
        total = grad.sum(0) if need_bias or need_bias_mask else None
        grad_bias = total * bias_mask if need_bias else None
        grad_bias_mask = total * bias if need_bias_mask else None
        return grad_x, grad_weight, grad_bias, grad_rows, grad_columns, grad_bias_mask


def _segments(widths: tuple[int, ...]):
    """Neighbouring widths as (start, end): units of one segment belong to the same set of widths."""
    return zip((0, *widths[:-1]), widths, strict=True)


def _from_the_right(per_width: Tensor) -> Tensor:
    """Entry s = sum over the widths that contain segment s."""
    return per_width.flip(-1).cumsum(-1).flip(-1)


def _nested_statistics(x: Tensor, widths: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1/std of the first e units, for every width e: (tokens, K) each.

    Segments are merged by the pairwise update of Chan et al. (1979), which does not cancel as E[x^2] - E[x]^2 does.
    """
    means, variances = [], []
    mean = squares = x.new_zeros(x.shape[0])
    for lo, hi in _segments(widths):
        variance_new, mean_new = torch.var_mean(x[:, lo:hi], -1, correction=0)
        delta = mean_new - mean
        mean = mean + delta * ((hi - lo) / hi)
        squares = squares + variance_new * (hi - lo) + delta.square() * (lo * (hi - lo) / hi)
        means.append(mean)
        variances.append(squares / hi)
    return torch.stack(means, -1), (torch.stack(variances, -1) + eps).rsqrt()
