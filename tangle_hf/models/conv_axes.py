"""Entries of axis tables for the layers of convolutional nets, and what these layers cost."""

from collections.abc import Callable, Mapping

from ..axes import Axis, AxisTable, ParameterAxes, num_elements, whole


def conv(
    name: str, outputs: Axis, inputs: Axis, kernel: Axis | None = None, layer: int | None = None, bias: bool = False
) -> AxisTable:
    """A convolution.

    Args:
        name: Name of the module.
        outputs: Output channels.
        inputs: Input channels of a group: `whole(1)` in a depthwise convolution.
        kernel: Height and width of the kernel; 1x1 if None.
        layer: The layer it sits in.
        bias: Whether it has one.
    """
    kernel = kernel or whole(1)
    table = {f"{name}.weight": ParameterAxes((outputs, inputs, kernel, kernel), layer)}
    return table | ({f"{name}.bias": ParameterAxes((outputs,), layer)} if bias else {})


def linear(name: str, outputs: Axis, inputs: Axis, layer: int | None = None, bias: bool = True) -> AxisTable:
    """A linear layer."""
    table = {f"{name}.weight": ParameterAxes((outputs, inputs), layer)}
    return table | ({f"{name}.bias": ParameterAxes((outputs,), layer)} if bias else {})


def batch_norm(name: str, channels: Axis, layer: int | None = None) -> AxisTable:
    """A batch norm, and its running statistics, which are buffers."""
    parameters = {f"{name}.{part}": ParameterAxes((channels,), layer) for part in ("weight", "bias")}
    statistics = {f"{name}.running_{part}": ParameterAxes((channels,), layer, buffer=True) for part in ("mean", "var")}
    return parameters | statistics


def products(axes: AxisTable, positions: Mapping[str, int]) -> list[tuple[ParameterAxes, Callable[[Mapping], int]]]:
    """Convolutions and linear layers with the FLOPs of one image: 2 * positions of the output * weight elements.

    Args:
        axes: The axis table.
        positions: Name of a weight -> height * width of its output; those that are missing are at one position.
    """
    weights = ((entry, 2 * positions.get(name, 1)) for name, entry in axes.items() if len(entry.axes) > 1)
    return [
        (entry, lambda values, entry=entry, work=work: work * num_elements(entry, values)) for entry, work in weights
    ]
