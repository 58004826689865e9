"""Configuration of a supernet of cells: the skeleton, and what each edge can be."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from ...axes import AxisTable, ParameterAxes
from ...space import PerLayer, SearchSpace
from ..spaces import supernet_dict
from .axes_cells import cells_axes, cells_products
from .configuration_tangle_cells import TangleCellsConfig
from .genotypes import cell_of, edge_name


@strict
class ElasticCellsConfig(TangleCellsConfig):
    """Configuration of `ElasticCellsForImageClassification`. Sizes that are None are those that the space is searched with.

    Args:
        space: A row of operations for each edge, `normal=PerLayer(operations, rows=edges)` and `reduce=` likewise; kinds of
            cells that it does not name can be everything.
        entangled: Whether convolutions that differ in the kernel only share their weights, small kernels being the centre
            of the large one; False gives each its own weights (weight sharing in the classical sense).
        kept: Kind of cell -> for each edge, the operations that are left, None for all; see `prune`. Shares of the others are
            spread over these in proportion.
        kept_inputs: Edges into each node that a discretisation keeps, the others become `none`; 0 for all, None for those of
            the field, 2 in DARTS (arXiv:1806.09055, section 2.4).
        norm_affine: Whether batch norms in cells have gains and biases; off, because gains could take over the part of the
            shares.
        pool_norm: Whether batch norms follow pooling in cells; on for DARTS.

    Raises:
        ValueError: The space names an unknown cell or operation, or has not one row per edge; what is left of an edge is none
            of its operations; or `kept_inputs` is negative, or has no `none` for the edges that are not kept.
    """

    _auto_class: ClassVar[str | None] = None  # a supernet does not travel, the nets that it gives do
    embedding_parameters = ()

    space: Any = None
    entangled: bool = True
    kept: Any = None
    kept_inputs: int | None = None
    norm_affine: bool = False
    pool_norm: bool | None = None

    def __post_init__(self, **kwargs):
        cell = cell_of(self.cell)
        self.named_by_kernel = not self.entangled
        if self.pool_norm is None:
            self.pool_norm = self.cell == "darts"
        if self.kept_inputs is None:
            self.kept_inputs = cell.kept_inputs or 0
        self.space = complete_cells(self.cell, self.space)
        self._check_kept_inputs()
        super().__post_init__(**kwargs)
        if self.auxiliary_weight or self.drop_path_rate:
            raise ValueError(
                "auxiliary_weight and drop_path_rate are for training a found net; leave them out of a search"
            )

    def _read_operations(self) -> None:
        for name in ("normal", "reduce", "genotype"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)!r} fixes operations; a supernet has all of its space")
        if self.kept is not None:
            self._check_kept()

    def _check_kept_inputs(self) -> None:
        if self.kept_inputs < 0:
            raise ValueError(f"kept_inputs={self.kept_inputs} must be at least 0; 0 keeps all")
        for kind, choices in self.space.choices.items():
            if self.kept_inputs and ("none" not in choices or len(choices) < 2):
                raise ValueError(
                    f"kept_inputs={self.kept_inputs}: edges that are not kept become `none`, which has to be one of several "
                    f"operations; {kind} has {list(choices)}. Add none to the operations, or keep all edges with kept_inputs=0"
                )

    def _check_kept(self) -> None:
        cell = self.wiring
        if set(self.kept) != set(cell.kinds):
            raise ValueError(f"kept names {list(self.kept)}; {self.cell} has {list(cell.kinds)}")
        for kind, rows in self.kept.items():
            if len(rows) != len(cell.edges) or len({len(row) for row in rows}) != 1 or not rows[0]:
                raise ValueError(
                    f"kept[{kind!r}] needs {len(cell.edges)} edges with equally many operations, one at least"
                )
            for number, row in enumerate(rows):
                if unknown := [operation for operation in row if operation not in self.space.choices[kind]]:
                    raise ValueError(
                        f"kept[{kind!r}]: {unknown} on {edge_name(cell, number)} are not choices of the space"
                    )

    @property
    def operations(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Kind of cell -> what each edge can be, in the order of the space's choices."""
        choices = self.space.choices
        if self.kept is None:
            return {kind: (choices[kind],) * len(self.wiring.edges) for kind in self.wiring.kinds}
        return {
            kind: tuple(tuple(c for c in choices[kind] if c in row) for row in self.kept[kind]) for kind in choices
        }

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        return cells_axes(self)

    def matrix_products(
        self, sequence_length: int | None = None
    ) -> list[tuple[ParameterAxes, Callable[[Mapping], int]]]:
        """Every convolution and linear layer of a forward pass over one image, and its FLOPs for given choices.

        A convolution is 2 * height * width of its output * weight elements.

        Args:
            sequence_length: For other families; images have their own size.
        """
        return cells_products(self)

    def to_dict(self) -> dict[str, Any]:
        return supernet_dict(super().to_dict(), "TangleCellsForImageClassification")


def complete_cells(name: str, space: SearchSpace | Mapping | None) -> SearchSpace:
    """The space of a family of cells with all kinds of cells.

    Args:
        name: A key of `CELLS`.
        space: A space, what its `to_dict` gave, or None.

    Raises:
        ValueError: It names an unknown kind or operation, or has not one row per edge.
    """
    cell = cell_of(name)
    given = space if isinstance(space, SearchSpace) else SearchSpace.from_dict(space) if space else None
    choices = {} if given is None else given.choices
    if unknown := choices.keys() - set(cell.kinds):
        raise ValueError(f"{sorted(unknown)} cannot be searched in {name}; its dimensions are {list(cell.kinds)}")
    for kind in choices:
        if unknown := [operation for operation in choices[kind] if operation not in cell.operations]:
            raise ValueError(f"{kind}: {unknown} are no operations of {name}; choose from {cell.operations}")
        if given.rows(kind) != len(cell.edges) or kind not in given.per_layer:
            raise ValueError(
                f"{kind} has {given.rows(kind)} rows, a cell of {name} has {len(cell.edges)} edges; write "
                f"{kind}=PerLayer(operations, rows={len(cell.edges)})"
            )
    return SearchSpace(
        **{kind: PerLayer(choices.get(kind, cell.operations), rows=len(cell.edges)) for kind in cell.kinds}
    )


__all__ = ["ElasticCellsConfig"]
