"""Linear layers under a mixture: masked inputs, and weights that are sums of their slices.

Weights are (in, out), the layout of GPT-2's Conv1D; pass the transpose of a `torch.nn.Linear`. Both functions can compute
the GELU in front of them as well. Its output is then not kept but computed again in the backward pass, which on large
activations costs less than the memory traffic that it saves. Small inputs whose mask needs no gradient take stock operations.
"""

from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


BLOCK_BYTES = 16 * 2**20  # of a temporary, on a CPU


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
        if not mask.requires_grad and _on_weight(flat, weight):
            weight, mask = weight * mask[:, None], None
        if (mask is None or not mask.requires_grad) and len(_blocks(flat)) == 1:  # stock operations do it best
            active = _active(x.to(weight.dtype), gelu)
            return F.linear(_masked(active, mask), weight.T, bias)
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

        prefix_of="inputs":   y = gelu(x) (weight * sum_k P_k^T masks[k]) + bias * bias_mask
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
        gelu: "none" or "tanh", the approximation of `torch.nn.functional.gelu`, applied first; None: no activation.

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
    """Casts all tensors to the type that a stock linear layer would compute in: autocast's where it is on, else that of x."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return [t if t is None else t.to(dtype) for t in (x, *others)]


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask, weight, bias, gelu):
        ctx.gelu = gelu
        _, need_mask, need_weight, *_ = ctx.needs_input_grad
        blocks, on_weight = _blocks(x), mask is not None and _on_weight(x, weight)
        mixed = weight * mask[:, None] if on_weight else weight
        out = x.new_empty(len(x), weight.shape[1])
        for rows in blocks:
            active = _active(x[rows], gelu)
            _addmm(bias, active if on_weight else _masked(active, mask), mixed, out[rows])
        # The backward pass reads the input for the slope of the GELU, for the mask and for the weight: an architecture step
        # whose mask is not searched keeps nothing. The output of a GELU is kept where it is small.
        keep_x = gelu is not None or need_mask or need_weight
        keep_active = gelu is not None and need_mask and len(blocks) == 1
        ctx.save_for_backward(x if keep_x else None, active if keep_active else None, mask, weight)
        return out

    # With active = gelu(x), or x, and y = (active * mask) weight + bias:
    #
    #     grad_active = grad weight^T                                    dL/d(active * mask), (tokens, in)
    #     dL/dx       = grad_active * mask * gelu'(x)
    #     dL/dmask    = sum over tokens of active * grad_active
    #     dL/dweight  = (active * mask)^T grad
    #     dL/dbias    = sum over tokens of grad
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, kept, mask, weight = ctx.saved_tensors
        need_x, need_mask, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_x = grad.new_empty(len(grad), len(weight)) if need_x else None
        grad_mask = grad_weight = None
        for rows in _blocks(grad, len(weight)):
            target = grad_x[rows] if need_x else None
            active = kept
            if active is None and (need_mask or need_weight):
                active = _active(x[rows], ctx.gelu)
            if need_x or need_mask:
                grad_active = _grad_active(grad[rows], weight, target, ctx.gelu)
                if need_mask:
                    grad_mask = _add(grad_mask, _total(active * grad_active))
                if need_x:
                    grad_active = grad_active if mask is None else grad_active.mul_(mask)
                    _gelu_backward(grad_active, x, rows, ctx.gelu, target)
            if need_weight:
                grad_weight = _add_product(grad_weight, _masked(active, mask), grad[rows])
        return grad_x, grad_mask, grad_weight, grad.sum(0) if need_bias else None, None


class _SuperposedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, masks, widths, prefix_of_inputs, gelu):
        ctx.widths, ctx.prefix_of_inputs, ctx.gelu = widths, prefix_of_inputs, gelu
        keep_x = gelu is not None or ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        ctx.save_for_backward(x if keep_x else None, weight, masks)
        mixed = _mixed(weight, masks, widths, prefix_of_inputs)
        out = x.new_empty(len(x), weight.shape[1])
        for rows in _blocks(x):
            _addmm(bias, _active(x[rows], gelu), mixed, out[rows])
        return out

    # With active = gelu(x), or x, and y = active mixed + bias. `masks` are those of the segments here, and the rows (prefix of
    # inputs) or columns (prefix of outputs) of segment s of the weight are multiplied by masks[s]:
    #
    #     outer         = active^T grad                                  dL/dmixed, (in, out)
    #     dL/dx         = (grad mixed^T) * gelu'(x)
    #     dL/dweight    = outer, its segments times their masks
    #     dL/dmasks[s]  = sum over the units of segment s of outer * weight
    #     dL/dbias      = sum over tokens of grad
    #
    # For a prefix of the outputs, with product_s = grad[:, s] weight[:, s]^T, (tokens, in):
    #
    #     grad mixed^T  = sum_s product_s * masks[s]
    #     dL/dmasks[s]  = sum over tokens of active * product_s
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, masks = ctx.saved_tensors
        need_x, need_weight, need_bias, need_masks, *_ = ctx.needs_input_grad
        parts = partial(_parts, widths=ctx.widths, of_inputs=ctx.prefix_of_inputs)
        grad_x = grad.new_empty(len(grad), len(weight)) if need_x else None
        grad_masks = outer = None
        # With frozen weights and a prefix of the outputs, product_s gives the gradients of x and of the masks together, and
        # `outer`, which has the weight's size, is not needed.
        by_segment = need_masks and not need_weight and not ctx.prefix_of_inputs
        mixed = _mixed(weight, masks, ctx.widths, ctx.prefix_of_inputs) if need_x and not by_segment else None
        for rows in _blocks(grad, len(weight)):
            if by_segment:
                active, grad_active, per_mask = _active(x[rows], ctx.gelu), None, []
                for g, w, mask in zip(parts(grad[rows]), parts(weight), masks, strict=True):
                    product = g @ w.T
                    per_mask.append((active * product).sum(0))
                    grad_active = product.mul_(mask) if grad_active is None else grad_active.addcmul_(product, mask)
                grad_masks = _add(grad_masks, torch.stack(per_mask))
            elif need_weight or need_masks:
                outer = _add_product(outer, _active(x[rows], ctx.gelu), grad[rows])
            if need_x:
                target = grad_x[rows]
                if not by_segment:
                    grad_active = _grad_active(grad[rows], mixed, target, ctx.gelu)
                _gelu_backward(grad_active, x, rows, ctx.gelu, target)
        if need_masks and not by_segment:
            axis = 0 if ctx.prefix_of_inputs else 1
            pairs = zip(parts(outer), parts(weight), strict=True)
            grad_masks = torch.stack([(o * w).sum(axis) for o, w in pairs])
        if need_weight:
            outer = _mixed(outer, masks, ctx.widths, ctx.prefix_of_inputs, out=outer)
        grad_weight = outer if need_weight else None
        return grad_x, grad_weight, grad.sum(0) if need_bias else None, grad_masks, None, None, None


def _blocks(x: Tensor, width: int | None = None) -> list[slice]:
    """Cuts the tokens into blocks so that a temporary (block, width) stays below `BLOCK_BYTES`; the width is that of x if None.

    On a CPU a large temporary costs more in page faults than the arithmetic on it, as the allocator returns it to the
    system each time. A GPU has an allocator that keeps memory, and the compiler makes its own blocks.
    """
    size = len(x)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        count = -(-size * (width or x.shape[1]) * x.element_size() // BLOCK_BYTES)
        size = max(1, -(-size // max(1, count)))
    return [slice(start, start + size) for start in range(0, len(x), max(1, size))]


def _active(x: Tensor, gelu: str | None) -> Tensor:
    return F.gelu(x, approximate=gelu) if gelu else x


def _on_weight(x: Tensor, weight: Tensor) -> bool:
    """Whether the mask is cheaper to put on the weight than on the inputs: there are more tokens than outputs."""
    return len(x) > weight.shape[1]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _grad_active(grad: Tensor, weight: Tensor, target: Tensor | None, gelu: str | None) -> Tensor:
    """`grad weight^T`, the gradient of the activation's output. Without an activation it is written into `target`, dL/dx."""
    return grad @ weight.T if gelu or target is None else torch.mm(grad, weight.T, out=target)


def _gelu_backward(grad: Tensor, x: Tensor | None, rows: slice, gelu: str | None, target: Tensor) -> None:
    """Writes dL/dx into the target: `grad * gelu'(x)`, or `grad` without an activation."""
    if gelu:
        torch.ops.aten.gelu_backward.grad_input(grad, x[rows], approximate=gelu, grad_input=target)
    elif grad is not target:
        target.copy_(grad)


def _addmm(bias: Tensor | None, x: Tensor, weight: Tensor, out: Tensor) -> None:
    if bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)


def _total(rows: Tensor) -> Tensor:
    """Sum over tokens."""
    if torch.compiler.is_compiling():  # the compiler's loop down a column is slow and computes its summands twice
        return (rows.new_ones(1, len(rows)) @ rows)[0]
    return rows.sum(0)


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _add_product(total: Tensor | None, x: Tensor, grad: Tensor) -> Tensor:
    """Adds `x^T grad` to the total."""
    return x.T @ grad if total is None else total.addmm_(x.T, grad)


def _segments(widths: tuple[int, ...]):
    return zip((0, *widths[:-1]), widths, strict=True)


def _parts(weight: Tensor, widths: tuple[int, ...], of_inputs: bool) -> list[Tensor]:
    """The segments of a weight: cut between neighbouring widths along its prefix side."""
    return [weight[lo:hi] if of_inputs else weight[:, lo:hi] for lo, hi in _segments(widths)]


def _mixed(
    weight: Tensor, masks: Tensor, widths: tuple[int, ...], of_inputs: bool, out: Tensor | None = None
) -> Tensor:
    """The superposed weight: every segment times its mask, in one pass; into `out` if given, which may be the weight."""
    parts, masks = _parts(weight, widths, of_inputs), masks if of_inputs else masks[..., None]
    if torch.compiler.is_compiling():  # the compiler fuses this; many writes into parts of one tensor take it minutes
        return torch.cat([part * mask for part, mask in zip(parts, masks, strict=True)], 0 if of_inputs else 1)
    out = torch.empty_like(weight) if out is None else out
    for target, part, mask in zip(_parts(out, widths, of_inputs), parts, masks, strict=True):
        torch.mul(part, mask, out=target)
    return out
