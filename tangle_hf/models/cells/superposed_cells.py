"""Edges of cells under a mixture: outputs of operations are mixed, kernels of one operation are superposed.

Of the operations on an edge, those that differ in the kernel only are one module. Its kernel is the share-weighted sum of its
centres, so that one convolution stands for all of them, and its output enters the edge's sum with the sum of their shares::

    edge(x) = sum over modules m of s_m * m(x; W_m * sum_{k in m} (a_k / s_m) [centre k]),    s_m = sum_{k in m} a_k

Sums over kernels are relative to s_m because a batch norm follows, which takes any common factor away: with a_k in place of
a_k / s_m the edge would not depend on s_m, and neither learn it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...entangle import kernel_masks, share_sum
from .modeling_tangle_cells import Edge, partial_channels
from .operations import Zero, kernel_of, module_name


class EdgeShares(NamedTuple):
    """A mixture as the edges of a kind of cell see it.

    shares: module name -> its share on every edge, (edges,).
    kernels: module name -> what its kernel is multiplied by on every edge, (edges, size, size); only of modules that stand
        for several kernels.
    """

    shares: dict[str, Tensor]
    kernels: dict[str, Tensor]


def edge_shares(choices: tuple[str, ...], rows: Tensor, entangled: bool) -> EdgeShares:
    """Shares of modules and kernels for all edges at once.

    Args:
        choices: Operations, in the order of the shares.
        rows: Shares (edges, operations).
        entangled: Whether kernels of one operation share their weights.
    """
    shares, kernels = {}, {}
    for name in dict.fromkeys(module_name(choice, entangled) for choice in choices):
        own = [k for k, choice in enumerate(choices) if module_name(choice, entangled) == name]
        shares[name] = rows[:, own].sum(1)
        if len(own) > 1:
            centres = _centres([kernel_of(choices[k]) for k in own]).to(rows)
            kernels[name] = kernel_masks(centres, _relative(rows[:, own], shares[name]))
    return EdgeShares(shares, kernels)


def superposed_edge(edge: Edge, x: Tensor, mixed: EdgeShares, number: int) -> Tensor:
    """An edge under a mixture, (batch, channels, H, W) -> the same, height and width divided by its stride."""
    return partial_channels(x, edge.partial_channels, edge.stride, lambda x: _superposed(edge, x, mixed, number))


def _superposed(edge: Edge, x: Tensor, mixed: EdgeShares, number: int) -> Tensor:
    parts, shares = [], []
    for name, module in edge.items():
        if isinstance(module, Zero):
            continue
        parts.append(
            module(x, _cropped(mixed.kernels[name][number], edge, name)) if name in mixed.kernels else module(x)
        )
        shares.append(mixed.shares[name][number])
    return share_sum(torch.stack(shares), parts) if parts else edge["none"](x)


def _cropped(mask: Tensor, edge: Edge, name: str) -> Tensor:
    """The part of a mask that an edge has a kernel for: large kernels may have been pruned."""
    kernel = max(kernel_of(o) for o in edge.operations if name in (o, module_name(o, entangled=True)))
    margin = (len(mask) - kernel) // 2
    return mask[margin : len(mask) - margin, margin : len(mask) - margin]


def _relative(shares: Tensor, total: Tensor) -> Tensor:
    """Shares of the kernels in their module, even where the module has none."""
    present = total[:, None] > 0
    return torch.where(present, shares / torch.where(present, total[:, None], 1), 1 / shares.shape[1])


def _centres(kernels: list[int]) -> Tensor:
    """Which taps of one side of the largest kernel each of several has, (K, size)."""
    size = max(kernels)
    centres = torch.zeros(len(kernels), size)
    for centre, kernel in zip(centres, kernels, strict=True):
        centre[(size - kernel) // 2 : (size + kernel) // 2] = 1
    return centres
