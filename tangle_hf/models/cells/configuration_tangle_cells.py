"""Configuration of a network of cells: the operations of its edges and the skeleton around them.

Travels with checkpoints as remote code, so it imports nothing but transformers and the notations beside it.
"""

from typing import NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .genotypes import Cell, Operations, cell_of, check_operations, has_notation, notation, parse


# What each space is searched with. A cell of the toy space has 28x28 grey images of Fashion-MNIST in front of it.
SKELETONS = {
    "toy_cell": {"hidden_size": 32, "num_cells": 3, "num_channels": 1, "image_size": 28, "dropout": 0.2},
    "nas_bench_201": {"hidden_size": 16, "num_cells": 5, "num_channels": 3, "image_size": 32, "dropout": 0.0},
    "darts": {"hidden_size": 16, "num_cells": 8, "num_channels": 3, "image_size": 32, "dropout": 0.0},
}
STEMS = ("cifar", "imagenet")
STEM_MULTIPLIER = 3  # channels of the stem of DARTS on CIFAR, relative to the first cell's


class Layer(NamedTuple):
    """What one entry of `cells` is built from.

    Args:
        kind: A kind of cell, or "residual", the block between the stages of NAS-Bench-201.
        inputs: Channels of its inputs.
        channels: Channels of its nodes.
        stride: 2 halves height and width on edges that leave an input.
        shrink: Whether its first input is twice as high and wide as its second.
        size: Height and width of its output.
    """

    kind: str
    inputs: tuple[int, ...]
    channels: int
    stride: int
    shrink: bool
    size: int


@strict
class TangleCellsConfig(PreTrainedConfig):
    """Configuration of `TangleCellsForImageClassification`.

    Give the operations as lists, one per edge, or as `genotype`. Sizes that are None are those that the space is searched
    with; `darts_cifar`, `darts_imagenet` and `nas_bench_201` give those that its networks are trained with.

    Args:
        cell: "toy_cell" (arXiv:2312.10440, appendix C), "nas_bench_201" (arXiv:2001.00326) or "darts" (arXiv:1806.09055).
        normal: Operation of every edge of a normal cell, in the order of the edges; edges that are not there are "none".
        reduce: Operation of every edge of a reduction cell, None in NAS-Bench-201.
        genotype: All operations in the notation of the space, None where it cannot express them.
        stem: "cifar", or "imagenet" with three convolutions of stride 2, for DARTS.
        hidden_size: Channels of the nodes of the first cell.
        num_cells: Cells; in NAS-Bench-201 in each of its three stages.
        num_channels: Channels of the images.
        image_size: Height and width, in pixels.
        dropout: Dropout of the toy space, behind each cell and in its classifier.
        partial_channels: Only the first 1 / partial_channels of an edge's channels take its operation (arXiv:1907.05737).
        norm_affine: Whether batch norms in cells have gains and biases, as they do in training and not in search.
        pool_norm: Whether batch norms follow pooling in cells, as they do in DARTS's search and not in training.
        drop_path_rate: Probability that an edge is left out for an image, in training.
        auxiliary_weight: Weight of the loss of a second classifier at two thirds of DARTS's depth; 0 for none.
        named_by_kernel: Whether parameters of convolutions have the kernel size in their names, as in supernets without
            entanglement.

    Raises:
        ValueError: An operation, edge or cell is unknown, operations and genotype differ, or a size does not fit.
    """

    model_type = "tangle_cells"

    cell: str = "darts"
    normal: list[str] | tuple[str, ...] | None = None
    reduce: list[str] | tuple[str, ...] | None = None
    genotype: str | None = None
    stem: str = "cifar"
    hidden_size: int | None = None
    num_cells: int | None = None
    num_channels: int | None = None
    image_size: int | None = None
    dropout: float | None = None
    partial_channels: int = 1
    norm_affine: bool = True
    pool_norm: bool = False
    drop_path_rate: float = 0.0
    auxiliary_weight: float = 0.0
    named_by_kernel: bool = False

    def __post_init__(self, **kwargs):
        cell_of(self.cell)
        if kwargs.get("space"):
            raise ValueError(
                "this is the config of a supernet, which has no operations to build a net from; extract one"
            )
        for name, value in SKELETONS[self.cell].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self._check_skeleton()
        self._read_operations()
        super().__post_init__(**kwargs)

    def _read_operations(self) -> None:
        given = {kind: tuple(value) for kind in ("normal", "reduce") if (value := getattr(self, kind)) is not None}
        if (
            not given and self.genotype is None
        ):  # the net that transformers makes to compare a config with its defaults
            cell = cell_of(self.cell)
            given = {
                kind: ("skip_connect" if not cell.concat else "sep_conv_3x3",) * len(cell.edges) for kind in cell.kinds
            }
        if self.genotype is not None:
            parsed = parse(self.cell, self.genotype)
            if given and check_operations(self.cell, given) != parsed:
                raise ValueError(f"genotype={self.genotype!r} and the operations {given} differ; give one of them")
            given = parsed
        operations = check_operations(self.cell, given)
        for kind, values in operations.items():
            setattr(self, kind, list(values))
        self.genotype = notation(self.cell, operations) if has_notation(self.cell, operations) else None

    def _check_skeleton(self) -> None:
        for name in ("hidden_size", "num_cells", "num_channels", "image_size", "partial_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("dropout", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.hidden_size % self.partial_channels:
            raise ValueError(
                f"partial_channels={self.partial_channels} does not divide hidden_size={self.hidden_size} channels"
            )
        if self.cell == "toy_cell" and self.num_cells != 3:
            raise ValueError(f"num_cells={self.num_cells}: the toy space has 3 cells, reduction, normal, reduction")
        if self.cell == "darts" and self.num_cells < 3:
            raise ValueError(f"num_cells={self.num_cells}: DARTS needs 3 cells at least, two of them reduce")
        if self.stem not in STEMS or (self.stem == "imagenet" and self.cell != "darts"):
            raise ValueError(
                f"stem={self.stem!r} is not available for {self.cell}; choose cifar, or imagenet for darts"
            )
        least, step = self._image_sizes()
        if self.image_size < least or self.image_size % step:
            raise ValueError(
                f"image_size={self.image_size} does not fit: {self.cell} with the stem {self.stem} halves it "
                f"{5 if self.stem == 'imagenet' else 2} times; choose a multiple of {step}, at least {least}"
            )
        if self.auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight={self.auxiliary_weight} must not be negative")
        if self.auxiliary_weight and (self.cell != "darts" or self.layers[-1].size < 5 + self.auxiliary_stride):
            raise ValueError(
                f"auxiliary_weight={self.auxiliary_weight}: only DARTS has a second classifier, and it needs images that "
                f"are {5 + self.auxiliary_stride} pixels high after the reductions; set it to 0"
            )

    def _image_sizes(self) -> tuple[int, int]:
        """Least image size, and what it must be a multiple of."""
        if self.cell == "toy_cell":
            return (8, 1) if self.partial_channels == 1 else (8, 4)
        return (32, 32) if self.stem == "imagenet" else (4, 4)

    @property
    def wiring(self) -> Cell:
        """Nodes and edges of a cell."""
        return cell_of(self.cell)

    @property
    def operations(self) -> Operations:
        """Kind of cell -> the operation of each edge."""
        return {kind: tuple(getattr(self, kind)) for kind in self.wiring.kinds}

    @property
    def auxiliary_stride(self) -> int:
        """Stride of the pooling of the second classifier."""
        return 2 if self.stem == "imagenet" else 3

    @property
    def stem_size(self) -> int:
        """Height and width of what the first cell reads."""
        return self.image_size // 8 if self.stem == "imagenet" else self.image_size

    @property
    def layers(self) -> list[Layer]:
        """The entries of `cells`, in order."""
        if self.cell == "nas_bench_201":
            return self._stages()
        width, multiplier, size = self.hidden_size, self.wiring.nodes, self.stem_size
        if self.cell == "toy_cell":
            previous, reductions, widths = [self.num_channels], (0, 2), (width, width, 2 * width)
        else:
            reductions = (self.num_cells // 3, 2 * self.num_cells // 3)
            previous = [width if self.stem == "imagenet" else STEM_MULTIPLIER * width] * 2
            widths = [width * 2 ** sum(i >= at for at in reductions) for i in range(self.num_cells)]
        layers, shrink = [], self.stem == "imagenet"
        for number, channels in enumerate(widths):
            stride = 2 if number in reductions else 1
            size = -(-size // stride)
            kind = "reduce" if stride == 2 else "normal"
            layers.append(Layer(kind, tuple(previous), channels, stride, shrink, size))
            previous, shrink = [*previous[1:], multiplier * channels], stride == 2 and len(previous) == 2
        return layers

    def _stages(self) -> list[Layer]:
        layers, size, width = [], self.image_size, self.hidden_size
        for stage in range(3):
            if stage:
                size, width = size // 2, 2 * width
                layers.append(Layer("residual", (width // 2,), width, 2, False, size))
            layers += [Layer("normal", (width,), width, 1, False, size)] * self.num_cells
        return layers


def darts_cifar(genotype: str | None = None, **options) -> TangleCellsConfig:
    """DARTS's network for CIFAR: 20 cells, 36 channels, auxiliary loss 0.4, drop path 0.2 (arXiv:1806.09055, A.2.1)."""
    return TangleCellsConfig(
        **{"genotype": genotype, "cell": "darts", "hidden_size": 36, "num_cells": 20, "image_size": 32}
        | {"auxiliary_weight": 0.4, "drop_path_rate": 0.2}
        | options
    )


def darts_imagenet(genotype: str | None = None, **options) -> TangleCellsConfig:
    """DARTS's network for ImageNet: 14 cells, 48 channels, auxiliary loss 0.4 (arXiv:1806.09055, A.2.3)."""
    return TangleCellsConfig(
        **{"genotype": genotype, "cell": "darts", "stem": "imagenet", "hidden_size": 48, "num_cells": 14}
        | {"image_size": 224, "auxiliary_weight": 0.4}
        | options
    )


__all__ = ["TangleCellsConfig"]
