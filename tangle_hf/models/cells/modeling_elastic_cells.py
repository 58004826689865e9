"""The supernet of a space of cells: every edge has the modules of all of its operations."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...arch_parameters import argmax
from ...space import Architecture
from ..conv_supernet import ConvSupernetMixin, only_compact
from .configuration_elastic_cells import ElasticCellsConfig
from .modeling_tangle_cells import TangleCellsForImageClassification
from .subnets_cells import discretise_edges, subnet_skeleton
from .superposed_cells import edge_shares, superposed_edge


class ElasticCellsForImageClassification(ConvSupernetMixin, TangleCellsForImageClassification):
    """Image classifier for every architecture of `config.space`.

    Operations have modules of their own; convolutions that differ in the kernel only are one (`config.entangled`). There is no
    largest cell, so that the forward pass needs a mixture or an architecture.
    """

    config: ElasticCellsConfig
    config_class = ElasticCellsConfig
    _auto_class = None

    stock_config = ElasticCellsConfig  # no plain net has the operations of a supernet
    tables = {}
    subnet_forms = staticmethod(only_compact)
    subnet_skeleton = staticmethod(subnet_skeleton)

    def __init__(self, config: ElasticCellsConfig):
        super().__init__(config)
        self._read_axes()
        self._kept = _masks(config)

    @staticmethod
    def sizes(config: ElasticCellsConfig) -> dict[str, Any]:
        """What a checkpoint and a space must agree on."""
        return {"cell": config.cell, "operations": config.operations, "entangled": config.entangled}

    @staticmethod
    def edge_operations(config: ElasticCellsConfig, kind: str) -> tuple[tuple[str, ...], ...]:
        """What each edge of a kind of cell can be."""
        return config.operations[kind]

    def superposed(self, pixel_values: Tensor, shares: Mapping[str, Tensor]) -> Tensor:
        config = self.config
        mixed = {
            kind: edge_shares(config.space.choices[kind], rows, config.entangled)
            for kind, rows in self._left(shares).items()
        }
        logits, _ = self.classify(
            pixel_values, lambda kind, number, edge, x: superposed_edge(edge, x, mixed[kind], number)
        )
        return logits

    def most_likely(self, shares: Mapping[str, Tensor]) -> Architecture:
        """The architecture that shares stand for; DARTS's rule where nodes keep some of their edges only."""
        config, shares = self.config, self._left(shares)
        if not config.kept_inputs:
            return argmax(self.space, shares)
        return discretise_edges(config.cell, self.space.choices, shares, config.kept_inputs)

    def _left(self, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shares of the operations that were not pruned, relative to their sum.

        A Dirichlet draw or a softmax over all operations becomes one over these, so that samplers need not know.
        """
        left = dict(shares)
        for kind, mask in self._kept.items():
            rows = shares[kind] * mask.to(shares[kind])
            total = rows.sum(1, keepdim=True)
            left[kind] = rows / torch.where(total > 0, total, 1)
        return left


def _masks(config: ElasticCellsConfig) -> dict[str, Tensor]:
    """Kind of cell -> ones where an operation is left (edges, operations), of pruned spaces."""
    if config.kept is None:
        return {}
    with torch.inference_mode(False):
        return {
            kind: torch.tensor(
                [[float(c in left) for c in config.space.choices[kind]] for left in edges], device="cpu"
            )
            for kind, edges in config.operations.items()
        }


__all__ = ["ElasticCellsForImageClassification"]
