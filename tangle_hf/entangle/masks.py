"""Shares of units, and sums weighted by shares."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def share_mask(membership: Tensor, *shares: Tensor) -> Tensor:
    """The share of the mixture that uses each unit of an axis, for all dimensions that the axis depends on::

        m[i] = sum_{j,k,...} shares_1[j] shares_2[k] ... membership[j, k, ..., i]

    Args:
        membership: Which units every combination of choices uses, zeros and ones (K_1, ..., K_n, ..., size), as
            `tangle_hf.axes.membership` makes it.
        shares: (K_1,), ..., (K_n,), for the leading dimensions. Those with rows, (R, K_i), give R masks.

    Returns:
        Masks of the shape that `membership` has without its first n axes, with R in front of it where there are rows. Values
        are in [0, 1] and differentiable in the shares.
    """
    rows = False  # whether the masks so far are one for each row
    for share in shares:
        if rows:
            mixed = share.unsqueeze(-2) @ membership.flatten(2)
            membership = mixed.view(len(mixed), *membership.shape[2:])
        else:
            membership = (share @ membership.flatten(1)).view(*share.shape[:-1], *membership.shape[1:])
            rows = share.ndim == 2
    return membership


def share_sum(shares: Tensor, parts: list[Tensor]) -> Tensor:
    """The share-weighted sum of tensors, `sum_k shares[k] parts[k]`, in one pass over each of them.

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

    # dL/dshares[k] = sum over elements of grad * parts[k],   dL/dparts[k] = shares[k] grad
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        shares, *parts = ctx.saved_tensors
        need_shares, *need_parts = ctx.needs_input_grad
        grad_shares = torch.stack([(grad * part).sum() for part in parts]) if need_shares else None
        return grad_shares, *(grad * s if n else None for s, n in zip(shares, need_parts, strict=True))
