"""One block of MobileNetV3 under a mixture: stock modules, functions over them.

    expand, depthwise   all inner channels; the kernel is superposed
    squeeze-excite      reads its inner channels, and then its squeezed channels, times their share
    project             reads the inner channels times their share

Batch norms come before the shares of their channels, so that they normalise every channel as its subnet does.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ...entangle import superpose_conv2d


class BlockShares(NamedTuple):
    """A mixture as one block sees it.

    inner: share of each inner channel, (inner,).
    squeezed: share of each inner channel of squeeze-excite, (squeezed,); None without one.
    kernel: share of each tap of the kernel, (size, size).
    kernels: shares of the kernel sizes, (K,).
    """

    inner: Tensor
    squeezed: Tensor | None
    kernel: Tensor
    kernels: Tensor


def superposed_block(block: nn.Module, x: Tensor, shares: BlockShares, sizes: tuple[int, ...]) -> Tensor:
    """A block, (batch, inputs, H, W) -> (batch, outputs, H / stride, W / stride).

    Args:
        block: `InvertedResidual` of the largest sizes.
        x: Its input.
        shares: The mixture as this block sees it.
        sizes: Choices of the kernel size.
    """
    out = block.expand(x)
    depthwise = block.depthwise
    if hasattr(depthwise, transform_name(sizes[0])) and len(sizes) > 1:
        weight = transformed_kernel(depthwise, sizes, shares.kernels)
        out = depthwise.conv._conv_forward(out, weight, None)
    else:
        out = superpose_conv2d(depthwise.conv, out, kernel=shares.kernel)
    out = depthwise.act(depthwise.norm(out))
    if shares.squeezed is not None:
        out = _squeeze_excite(block.squeeze_excite, out, shares)
    out = block.project.norm(superpose_conv2d(block.project.conv, out, channels=shares.inner))
    return x + out if block.residual else out


def transform_name(size: int) -> str:
    """Name of the matrix that gives the kernel of a size from the centre of the next larger one."""
    return f"transform_{size}"


def transformed_kernel(depthwise: nn.Module, sizes: tuple[int, ...], shares: Tensor | None = None) -> Tensor:
    """Once-for-all's kernels (arXiv:1908.09791, section 3.2): `W_k = T_k centre_k(W_next)`, and their padded sum.

    Args:
        depthwise: The block's convolution, with matrices (k^2, k^2) for all sizes but the largest.
        sizes: Choices of the kernel size, ascending.
        shares: (K,): the sum over sizes of share * padded kernel, as large as the largest. None: the kernel of `sizes[0]`.
    """
    weights = [depthwise.conv.weight]
    for small in reversed(sizes[:-1]):
        margin = (weights[-1].shape[-1] - small) // 2
        centre = weights[-1][..., margin : margin + small, margin : margin + small]
        matrix = getattr(depthwise, transform_name(small))
        weights.append((centre.flatten(1) @ matrix.T).view(centre.shape))
    if shares is None:
        return weights[-1]
    mixed = 0
    for weight, share in zip(reversed(weights), shares, strict=True):
        if not isinstance(mixed, int):
            mixed = F.pad(mixed, [(weight.shape[-1] - mixed.shape[-1]) // 2] * 4)
        mixed = mixed + weight * share
    return mixed


def _squeeze_excite(module: nn.Module, x: Tensor, shares: BlockShares) -> Tensor:
    squeezed = F.relu(F.linear(x.mean((2, 3)) * shares.inner, module.reduce.weight, module.reduce.bias))
    gates = F.hardsigmoid(F.linear(squeezed * shares.squeezed, module.expand.weight, module.expand.bias))
    return x * gates[:, :, None, None]
