"""The axis table of cells: an operation owns the parameters of its module, and the centre of a kernel that is larger.

Which tensors a module has is read off the module itself, built without memory.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import nn
from transformers import PreTrainedConfig

from ...axes import Axis, AxisTable, Block, ParameterAxes, num_elements, whole
from .modeling_tangle_cells import TangleCellsForImageClassification
from .operations import kernel_of, make_operation, module_name, modules_of


Tensors = tuple[tuple[str, tuple[int, ...], bool], ...]  # name, shape, whether it is a buffer


class _Skeleton(TangleCellsForImageClassification):
    """The network without the operations of its edges."""

    @staticmethod
    def edge_operations(config: PreTrainedConfig, kind: str) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(config.wiring.edges)


def cells_axes(config: PreTrainedConfig) -> AxisTable:
    """Names of all parameters, and of the statistics of batch norms -> their axes, for the supernet of a config."""
    return {name: entry for name, entry, _ in _entries(config)}


def cells_products(config: PreTrainedConfig) -> list[tuple[ParameterAxes, Callable[[Mapping], int]]]:
    """Every convolution and linear layer, and its FLOPs for one image and given choices."""
    return [
        (entry, lambda values, entry=entry, work=2 * positions: work * num_elements(entry, values))
        for _, entry, positions in _entries(config)
        if len(entry.axes) > 1
    ]


def _entries(config: PreTrainedConfig) -> list[tuple[str, ParameterAxes, int]]:
    """Name, axes, and positions that a weight is applied at."""
    with torch.device("meta"):
        skeleton = _Skeleton(config)
    entries = []
    for name, shape, buffer in _tensors(skeleton):
        entries.append((name, ParameterAxes(tuple(map(whole, shape)), None, buffer), _positions(config, name)))
    for number, layer in enumerate(config.layers):
        if layer.kind == "residual":
            continue
        width = layer.channels // config.partial_channels
        for edge, choices in enumerate(config.operations[layer.kind]):
            stride = layer.stride if config.wiring.edges[edge][0] < config.wiring.inputs else 1
            for module, operation in modules_of(choices, config.entangled).items():
                own = tuple(c for c in choices if module_name(c, config.entangled) == module)
                arguments = (operation, width, stride, config.norm_affine, config.pool_norm)
                for name, shape, buffer in _operation_tensors(*arguments):
                    axes = _owned_by(layer.kind, own, shape, kernel_of(operation))
                    full = f"cells.{number}.edges.{edge}.{module}.{name}"
                    entries.append((full, ParameterAxes(axes, edge, buffer), layer.size**2))
    return entries


def _owned_by(kind: str, operations: tuple[str, ...], shape: tuple[int, ...], kernel: int | None) -> tuple[Axis, ...]:
    """Axes of a tensor that some operations own, the first one for whether they do, two more for their kernels."""

    def present(operation: str) -> Block:
        return ((shape[0], slice(shape[0] if operation in operations else 0)),)

    def centre(operation: str) -> Block:
        margin = (kernel - kernel_of(operation)) // 2 if operation in operations else 0
        return ((kernel, slice(margin, kernel - margin)),)

    spatial = len(shape) == 4 and shape[-1] == kernel
    axes = [Axis((kind,), present), *map(whole, shape[1:])]
    return (*axes[:2], Axis((kind,), centre), Axis((kind,), centre)) if spatial else tuple(axes)


@lru_cache(maxsize=1024)
def _operation_tensors(operation: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> Tensors:
    with torch.device("meta"):
        return _tensors(make_operation(operation, channels, stride, affine, pool_norm))


def _tensors(module: nn.Module) -> Tensors:
    # The count of batches is left out: it matters to a batch norm without momentum only.
    buffers = ((name, b) for name, b in module.named_buffers() if not name.endswith("num_batches_tracked"))
    found = [(name, tuple(p.shape), False) for name, p in module.named_parameters()]
    return (*found, *((name, tuple(b.shape), True) for name, b in buffers))


def _positions(config: PreTrainedConfig, name: str) -> int:
    """Height * width of the output of a layer outside the edges; 1 of a linear layer."""
    part, *rest = name.split(".")
    if part == "stem":
        halvings = 0 if config.stem == "cifar" else {"0.0": 1, "0.3": 2, "1.1": 3}.get(".".join(rest[:2]), 0)
        return (config.image_size // 2**halvings) ** 2
    if part == "cells":
        number = int(rest[0])
        if rest[1] == "preprocess":
            return (config.layers[number - 1].size if number else config.stem_size) ** 2
        return config.layers[number].size ** 2
    return 1
