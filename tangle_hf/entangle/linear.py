"""Linear layers under a mixture: masked inputs, and weights that are sums of their slices.

Weights are (in, out), the layout of GPT-2's Conv1D; pass the transpose of a `torch.nn.Linear`. Both functions may take
the GELU in front of them along: it is computed again in the backward pass instead of kept, which on large activations
costs less than the memory traffic that it saves.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def masked_linear(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Tensor:
    """A linear layer of masked inputs, `y = (gelu(x) * mask) weight + bias`.

    Args:
        x: (..., in).
        mask: Share of each input unit, (in,).
        weight: (in, out).
        bias: (out,) or None.
        gelu: "none" or "tanh", the approximation of `torch.nn.functional.gelu`, applied first; None: no activation.

    Returns:
        (..., out), in the autocast type where autocast is on.
    """
    flat, mask, weight, bias = _cast(x.flatten(0, -2), mask, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return _MaskedLinear.apply(flat, mask, weight, bias, gelu).view(*x.shape[:-1], -1)


def superpose_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    masks: Tensor,
    widths: tuple[int, ...],
    bias_mask: Tensor,
    prefix_of: str,
    gelu: str | None = None,
) -> Tensor:
    """A linear layer under combi-superposition of its weight (arXiv:2312.10440, algorithm 2).

    One side of the weight is sliced to a prefix, the other to any units. With `P_k[i] = [i < widths[k]]`::

        prefix_of="inputs":   y = x (weight * sum_k P_k^T masks[k]) + bias * bias_mask
        prefix_of="outputs":  y = gelu(x) (weight * sum_k masks[k]^T P_k) + bias * bias_mask

    The sum is constant along the prefix side between two neighbouring widths, so the mask is applied one segment at a
    time, is never formed, and is applied again in the backward pass: nothing of the weight's size is kept in between.

    Args:
        x: (..., in).
        weight: (in, out).
        bias: (out,) or None.
        masks: Shares of the other side's units for each width, (K, out) or (K, in).
        widths: K strictly ascending widths; the last one is the full prefix side.
        bias_mask: (out,).
        prefix_of: Which side the prefix is on.
        gelu: As in `masked_linear`.

    Returns:
        (..., out), in the autocast type where autocast is on.
    """
    flat, weight, bias, masks, bias_mask = _cast(x.flatten(0, -2), weight, bias, masks, bias_mask)
    with torch.autocast(x.device.type, enabled=False):
        segment_masks = masks.flip(0).cumsum(0).flip(0)  # a segment belongs to every width beyond it
        bias = bias * bias_mask if bias is not None else None
        out = _SuperposedLinear.apply(flat, weight, bias, segment_masks, tuple(widths), prefix_of == "inputs", gelu)
        return out.view(*x.shape[:-1], -1)


def _cast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """All tensors in the type that a stock linear layer would compute in: autocast's where it is on, else that of x."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return [t if t is None else t.to(dtype) for t in (x, *others)]


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask, weight, bias, gelu):
        ctx.gelu = gelu
        # The input is needed for the slope of the GELU, for the mask and for the weight: an architecture step without
        # a searched mask keeps nothing.
        keep_x = gelu is not None or ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.save_for_backward(x if keep_x else None, mask, weight)
        return _addmm(bias, _masked(x, mask, gelu), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, mask, weight = ctx.saved_tensors
        need_x, need_mask, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_x = grad_mask = grad_weight = None
        if need_x or need_mask:
            grad_x = grad @ weight.T
            if need_mask:
                active = F.gelu(x, approximate=ctx.gelu) if ctx.gelu else x
                grad_mask = (active * grad_x).sum(0)
            grad_x.mul_(mask)
            if ctx.gelu and need_x:
                grad_x = torch.ops.aten.gelu_backward(grad_x, x, approximate=ctx.gelu)
        if need_weight:
            grad_weight = _masked(x, mask, ctx.gelu).T @ grad
        return grad_x, grad_mask, grad_weight, grad.sum(0) if need_bias else None, None


class _SuperposedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, masks, widths, prefix_of_inputs, gelu):
        ctx.widths, ctx.prefix_of_inputs, ctx.gelu = widths, prefix_of_inputs, gelu
        keep_x = gelu is not None or ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        ctx.save_for_backward(x if keep_x else None, weight, masks)
        active = F.gelu(x, approximate=gelu) if gelu else x
        return _addmm(bias, active, _mixed(weight, masks, widths, prefix_of_inputs))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, masks = ctx.saved_tensors
        need_x, need_weight, need_bias, need_masks, *_ = ctx.needs_input_grad
        grad_x = grad_weight = grad_masks = None
        active = F.gelu(x, approximate=ctx.gelu) if ctx.gelu and (need_weight or need_masks) else x
        if need_weight or (need_masks and ctx.prefix_of_inputs):
            grad_x = grad @ _mixed(weight, masks, ctx.widths, ctx.prefix_of_inputs).T if need_x else None
            outer = active.T @ grad
            if need_masks:
                grad_masks = torch.stack(
                    [(o * w).sum(axis) for o, w, axis in _pairs(outer, weight, ctx.widths, ctx.prefix_of_inputs)]
                )
            if need_weight:
                grad_weight = outer
                for segment, mask in zip(_parts(outer, ctx.widths, ctx.prefix_of_inputs), masks, strict=True):
                    segment.mul_(mask if ctx.prefix_of_inputs else mask[:, None])
        elif need_masks:
            # Frozen weights: one product per segment of the outputs gives the gradients of x and of the masks together,
            # and x^T grad, of the weight's size, is not needed.
            rows = []
            for (lo, hi), mask in zip(_segments(ctx.widths), masks, strict=True):
                product = grad[:, lo:hi] @ weight[:, lo:hi].T
                rows.append((active * product).sum(0))
                grad_x = product.mul_(mask) if grad_x is None else grad_x.addcmul_(product, mask)
            grad_masks = torch.stack(rows)
        elif need_x:
            grad_x = grad @ _mixed(weight, masks, ctx.widths, ctx.prefix_of_inputs).T
        if ctx.gelu and need_x:
            grad_x = torch.ops.aten.gelu_backward(grad_x, x, approximate=ctx.gelu)
        return grad_x, grad_weight, grad.sum(0) if need_bias else None, grad_masks, None, None, None


def _masked(x: Tensor, mask: Tensor, gelu: str | None) -> Tensor:
    return F.gelu(x, approximate=gelu).mul_(mask) if gelu else x * mask


def _addmm(bias: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _segments(widths: tuple[int, ...]):
    return zip((0, *widths[:-1]), widths, strict=True)


def _parts(weight: Tensor, widths: tuple[int, ...], of_inputs: bool) -> list[Tensor]:
    """The weight between neighbouring widths of its prefix side."""
    return [weight[lo:hi] if of_inputs else weight[:, lo:hi] for lo, hi in _segments(widths)]


def _pairs(outer: Tensor, weight: Tensor, widths: tuple[int, ...], of_inputs: bool):
    axis = 0 if of_inputs else 1
    return [
        (o, w, axis) for o, w in zip(_parts(outer, widths, of_inputs), _parts(weight, widths, of_inputs), strict=True)
    ]


def _mixed(weight: Tensor, masks: Tensor, widths: tuple[int, ...], of_inputs: bool) -> Tensor:
    """The superposed weight: every segment times its mask, in one pass."""
    out = torch.empty_like(weight)
    for target, part, mask in zip(
        _parts(out, widths, of_inputs), _parts(weight, widths, of_inputs), masks, strict=True
    ):
        torch.mul(part, mask if of_inputs else mask[:, None], out=target)
    return out
