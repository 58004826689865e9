"""The operations on the edges of cells, as DARTS (arXiv:1806.09055) and NAS-Bench-201 (arXiv:2001.00326) build them.

All of them keep the number of channels and map (batch, C, H, W) to (batch, C, ceil(H / stride), ceil(W / stride)). Travels
with checkpoints as remote code, so it imports nothing but torch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Module):
    """ReLU, convolution, batch norm; depthwise convolution and a pointwise one behind it where `separable`.

    Args:
        channels: In.
        out_channels: Out.
        kernel: Height and width of the kernel, odd.
        stride: Stride of the (depthwise) convolution.
        affine: Whether the batch norm has gains and biases.
        separable: Whether the convolution is depthwise.
        dilation: Dilation of the (depthwise) convolution.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        affine: bool,
        separable: bool = False,
        dilation: int = 1,
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            channels,
            channels if separable else out_channels,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels if separable else 1,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels, out_channels, 1, bias=False) if separable else None
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor, kernel_mask: Tensor | None = None) -> Tensor:
        """Runs it.

        Args:
            x: (batch, channels, H, W).
            kernel_mask: What the kernel of `conv` is multiplied by, (kernel, kernel), or None.
        """
        conv, x = self.conv, F.relu(x)
        if kernel_mask is None:
            x = conv(x)
        else:
            x = F.conv2d(x, conv.weight * kernel_mask, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        return self.norm(x if self.pointwise is None else self.pointwise(x))


class SeparableConv(nn.Module):
    """Two depthwise separable convolutions in a row; the first one has the stride. `kernel_mask` is for both."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.first = ConvNorm(channels, channels, kernel, stride, affine, separable=True)
        self.second = ConvNorm(channels, channels, kernel, 1, affine, separable=True)

    def forward(self, x: Tensor, kernel_mask: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, kernel_mask), kernel_mask)


class FactorizedReduce(nn.Module):
    """ReLU, two pointwise convolutions of stride 2 on shifted grids, side by side, batch norm. Height and width are even."""

    def __init__(self, channels: int, out_channels: int, affine: bool):
        super().__init__()
        self.even = nn.Conv2d(channels, (out_channels + 1) // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels, out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


class Pool(nn.Module):
    """3x3 pooling, "max" or "avg" (padding does not count), then batch norm without gains if `norm`."""

    def __init__(self, kind: str, channels: int, stride: int, norm: bool):
        super().__init__()
        if kind == "max":
            self.pool = nn.MaxPool2d(3, stride, padding=1)
        else:
            self.pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(channels, affine=False) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(x))


class Zero(nn.Module):
    """No edge: zeros."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def kernel_of(operation: str) -> int | None:
    """Kernel size of a convolution, e.g. 5 of sep_conv_5x5; None of everything else."""
    return int(operation[-1]) if "_conv_" in operation else None


def module_name(operation: str, entangled: bool) -> str:
    """Which module of an edge an operation uses: where kernels are entangled, its name without the kernel size."""
    return operation.rsplit("_", 1)[0] if entangled and kernel_of(operation) else operation


def modules_of(operations: tuple[str, ...], entangled: bool) -> dict[str, str]:
    """Name of each module of an edge -> the operation that it is built for, the one with the largest kernel."""
    by_kernel = sorted(operations, key=lambda operation: kernel_of(operation) or 0)
    return {module_name(operation, entangled): operation for operation in by_kernel}


def make_operation(operation: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> nn.Module:
    """The module of an operation.

    Args:
        operation: Its name, e.g. "sep_conv_3x3".
        channels: In and out.
        stride: 1 or 2.
        affine: Whether batch norms of convolutions have gains and biases.
        pool_norm: Whether pooling is followed by a batch norm.
    """
    kernel = kernel_of(operation)
    if operation.startswith("sep_conv"):
        return SeparableConv(channels, kernel, stride, affine)
    if operation.startswith("dil_conv"):
        return ConvNorm(channels, channels, kernel, stride, affine, separable=True, dilation=2)
    if operation.startswith("nor_conv"):
        return ConvNorm(channels, channels, kernel, stride, affine)
    if operation.endswith("pool_3x3"):
        return Pool(operation[:3], channels, stride, pool_norm)
    if operation == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    if operation == "none":
        return Zero(stride)
    raise ValueError(f"{operation!r} is not an operation")
