"""Shares of units, and sums weighted by shares."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def share_mask(membership: Tensor, *shares: Tensor) -> Tensor:
    """Share of the mixture that uses each unit of an axis, over all its dimensions at once::

        m[i] = sum_{j,k,...} shares_1[j] shares_2[k] ... membership[j, k, ..., i]

    Args:
        membership: Zeros and ones (K_1, ..., K_n, ..., size), see `tangle_hf.axes.membership`.
        shares: (K_1,), ..., (K_n,), for the leading dimensions. The last one may be rows (R, K_n), one mask for each.

    Returns:
        Shape of `membership` without its first n axes, after the rows; values in [0, 1]; differentiable in the shares.
    """
    for row in shares:
        membership = (row @ membership.flatten(1)).view(*row.shape[:-1], *membership.shape[1:])
    return membership


def share_sum(shares: Tensor, parts: list[Tensor]) -> Tensor:
    """Sum of tensors times their shares, `sum_k shares[k] parts[k]`, in one pass over each.

    Args:
        shares: (K,).
        parts: K tensors of one shape.
    """
    return _ShareSum.apply(shares.to(parts[0].dtype), *parts)


class _ShareSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shares, *parts):
        ctx.save_for_backward(shares, *(parts if ctx.needs_input_grad[0] else ()))
        out = parts[0] * shares[0]
        for part, share in zip(parts[1:], shares[1:], strict=True):
            out.addcmul_(part, share)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        shares, *parts = ctx.saved_tensors
        need_shares, *need_parts = ctx.needs_input_grad
        grad_shares = torch.stack([(grad * part).sum() for part in parts]) if need_shares else None
        return grad_shares, *(grad * s if n else None for s, n in zip(shares, need_parts, strict=True))
