"""Convolutions under a mixture: kernels that are sums of their centre crops, inputs that are masked.

A mask on the input channels of a convolution is that mask on its weight, which is much smaller than the images.
"""

import torch
from torch import Tensor, nn


def kernel_masks(membership: Tensor, shares: Tensor) -> Tensor:
    """What each tap of a kernel is multiplied by, when its choices are centre crops of several sizes::

        mask[r, i, j] = sum_k shares[r, k] [tap (i, j) lies in the centre of size k]

    Args:
        membership: Which taps of one side every choice has, zeros and ones (K, size).
        shares: (rows, K).

    Returns:
        (rows, size, size).
    """
    return torch.einsum("rk,ki,kj->rij", shares, membership, membership)


def superpose_conv2d(
    conv: nn.Conv2d, x: Tensor, channels: Tensor | None = None, kernel: Tensor | None = None
) -> Tensor:
    """A convolution of masked inputs with a superposed kernel::

        y = conv(x * channels; weight * kernel)

    It is computed as one convolution with `weight * channels * kernel`, so no extra tensor has the size of the images. With
    padding size // 2 and odd sizes, a kernel cut to its centre gives the same images as the small convolution.

    Args:
        conv: Stock convolution of the largest sizes; its bias is used as it is.
        x: (batch, in, H, W).
        channels: Share of each input channel of a group, (in,), or (1,) in a depthwise convolution. None: no mask.
        kernel: Share of each tap, (size, size). None: no mask.
    """
    mask = None if channels is None else channels[:, None, None]
    if kernel is not None:
        mask = kernel if mask is None else mask * kernel
    return conv._conv_forward(x, conv.weight if mask is None else conv.weight * mask, conv.bias)
