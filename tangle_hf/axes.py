"""Which units of which parameter an architecture owns: the one place that turns choices into slices.

A family states one table, parameter name -> axes (`ParameterAxes`). Extraction, parameter counts, single-path training
and padding all read it, so a slicing rule exists once.

The units an axis owns are always a block of a reshaped axis: (size, slice) pairs whose sizes multiply to the length of
the full axis. A prefix of width e is `[(E, slice(e))]`; the fused q, k, v columns of h heads, each with the first d of D
units, are `[(3, slice(3)), (h, slice(h)), (D, slice(d))]`; the centre k of K is `[(K, slice((K - k) / 2, (K + k) / 2))]`.
A choice that owns nothing of an axis, `[(E, slice(0))]`, does without the parameter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from .space import Architecture, Choice, SearchSpace


Block = tuple[tuple[int, slice], ...]


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter.

    Args:
        dimensions: The search dimensions its units depend on.
        block: Values of those dimensions (of one layer), in that order -> the owned block.
    """

    dimensions: tuple[str, ...]
    block: Callable[..., Block]

    def owned(self, values: Mapping[str, Choice]) -> Block:
        """The block that an architecture owns, given its values at one layer."""
        return self.block(*(values[name] for name in self.dimensions))


@dataclass(frozen=True)
class ParameterAxes:
    """Axes of one parameter, or of a buffer.

    Args:
        axes: Its axes.
        layer: The layer it sits in, None outside the layers.
        buffer: Whether it is a buffer, such as the running mean of a batch norm: sliced along, but no parameter.
    """

    axes: tuple[Axis, ...]
    layer: int | None = None
    buffer: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        """All search dimensions that the shape depends on, each once."""
        return tuple(dict.fromkeys(name for axis in self.axes for name in axis.dimensions))


AxisTable = dict[str, ParameterAxes]


def whole(size: int) -> Axis:
    """An axis that every architecture owns completely, e.g. the vocabulary."""
    return Axis((), lambda: ((size, slice(size)),))


def prefix(name: str, size: int) -> Axis:
    """An axis of which a choice of `name` owns that many leading units."""
    return Axis((name,), lambda width: ((size, slice(width)),))


def centre(name: str, size: int) -> Axis:
    """An axis of which a choice of `name` owns that many units in the middle: one side of a convolution's kernel.

    Raises:
        ValueError: When it is read, if there is no middle: the choice and `size` are not both odd or both even.
    """

    def block(width: int) -> Block:
        margin, rest = divmod(size - width, 2)
        if rest:
            raise ValueError(f"{name}={width} has no middle in {size}; choose sizes that are all odd, or all even")
        return ((size, slice(margin, margin + width)),)

    return Axis((name,), block)


def moved_factor(axis: Axis, space: SearchSpace, name: str) -> int | None:
    """Which factor of an axis's block the choices of a dimension shorten, e.g. 0 of `[(H, slice(h)), (D, slice(D))]`.

    That factor counts the dimension's units; a factor in front of it counts the groups that they stand in.

    Returns:
        Its place in the block, or None where the choices own the same of the axis.
    """
    if name not in axis.dimensions:
        return None
    largest = {other: space.choices[other][-1] for other in axis.dimensions}
    small, full = axis.owned(largest | {name: space.choices[name][0]}), axis.owned(largest)
    return next((place for place, (a, b) in enumerate(zip(small, full, strict=True)) if a != b), None)


def layer_values(arch: Architecture, layer: int | None) -> dict[str, Choice | None]:
    """The values of an architecture as one layer sees them: per-layer tuples become that layer's value."""
    return {name: _at(value, layer) if isinstance(value, list) else value for name, value in arch.to_dict().items()}


def _at(values: list[Choice | None], layer: int | None) -> Choice | None:
    return None if layer is None or layer >= len(values) else values[layer]


def exists(entry: ParameterAxes, arch: Architecture) -> bool:
    """Whether an architecture has a parameter at all: its layer, and something of each of its axes."""
    return arch.has_layer(entry.layer) and num_elements(entry, layer_values(arch, entry.layer)) > 0


def named_tensors(model: nn.Module, table: AxisTable) -> dict[str, Tensor]:
    """The parameters of a model, and those of its buffers that a table has, by name."""
    return dict(model.named_parameters()) | {name: b for name, b in model.named_buffers() if name in table}


def slice_parameters(parameters: Mapping[str, Tensor], table: AxisTable, arch: Architecture) -> dict[str, Tensor]:
    """The parameters of one architecture, cut out of the supernet's; differentiable, views where the block allows it.

    Args:
        parameters: Full parameters and buffers, as `named_tensors` gives them.
        table: Axes of every parameter.
        arch: What to cut out.
    """
    cut = {}
    for name, entry in table.items():
        if exists(entry, arch):
            window, shape = _window(parameters[name], entry, arch)
            cut[name] = window.reshape(shape)
    return cut


def pad_parameters(parameters: Mapping[str, Tensor], full: Mapping[str, Tensor], table: AxisTable, arch: Architecture):
    """Writes the parameters of an architecture into `full` (zeros, in place): the inverse of `slice_parameters`."""
    for name, tensor in parameters.items():
        window, _ = _window(full[name], table[name], arch)
        window.copy_(tensor.reshape(window.shape))


def num_elements(entry: ParameterAxes, values: Mapping[str, Choice]) -> int:
    """Elements of one parameter for given values of its layer."""
    return prod(_length(size, part) for axis in entry.axes for size, part in axis.owned(values))


def _length(size: int, part: slice) -> int:
    return len(range(*part.indices(size)))


def _window(tensor: Tensor, entry: ParameterAxes, arch: Architecture) -> tuple[Tensor, list[int]]:
    """The owned block as a view with reshaped axes, and the shape it has as a parameter."""
    values = layer_values(arch, entry.layer)
    blocks = [axis.owned(values) for axis in entry.axes]
    sizes = [size for block in blocks for size, _ in block]
    shape = [prod(_length(size, part) for size, part in block) for block in blocks]
    return tensor.view(sizes)[tuple(part for block in blocks for _, part in block)], shape


def membership(space: SearchSpace, axis: Axis, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A table of which units of an axis every combination of choices owns.

    Args:
        space: Gives the choices of the axis's dimensions, K_1, ..., K_n of them.
        axis: The axis.
        size: Its full length.
        dtype: Type of the result.
        device: Device of the result.

    Returns:
        Zeros and ones of shape (K_1, ..., K_n, size).
    """
    choices = [space.choices[name] for name in axis.dimensions]
    rows = []
    with torch.inference_mode(False):  # a table made under inference mode could not be used in training later
        for values in product(*choices):
            block = axis.block(*values)
            row = torch.zeros([length for length, _ in block], dtype=dtype, device=device)
            row[tuple(part for _, part in block)] = 1
            rows.append(row.flatten())
        return torch.stack(rows).view(*map(len, choices), size)
