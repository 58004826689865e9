"""The supernet of a space of cells: every edge has the modules of all of its operations."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import AutoModelForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

from ...arch import argmax
from ...space import Architecture
from ..supernet import SupernetMixin, check_arguments
from .configuration_elastic_cells import ElasticCellsConfig
from .configuration_tangle_cells import TangleCellsConfig
from .modeling_tangle_cells import TangleCellsForImageClassification
from .subnets_cells import discretise_edges, subnet_forms, subnet_skeleton
from .superposed_cells import edge_shares, superposed_edge


class ElasticCellsForImageClassification(SupernetMixin, TangleCellsForImageClassification):
    """Image classifier for every architecture of `config.space`.

    Operations have modules of their own; convolutions that differ in the kernel only are one (`config.entangled`). There is no
    largest cell, so that the forward pass needs a mixture or an architecture.
    """

    config: ElasticCellsConfig
    config_class = ElasticCellsConfig

    stock_config = TangleCellsConfig
    auto_model = AutoModelForImageClassification
    tables = {}
    subnet_forms = staticmethod(subnet_forms)
    subnet_skeleton = staticmethod(subnet_skeleton)

    def __init__(self, config: ElasticCellsConfig):
        super().__init__(config)
        self._read_axes()
        self._kept = _masks(config)

    @staticmethod
    def edge_operations(config: ElasticCellsConfig, kind: str) -> tuple[tuple[str, ...], ...]:
        """What each edge of a kind of cell can be."""
        return config.operations[kind]

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        *,
        mixture: Mapping[str, Tensor] | None = None,
        arch: Architecture | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Runs the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            pixel_values: Images (batch, channels, height, width).
            labels: Classes (batch,), or what the loss function takes.
            mixture: Kind of cell -> shares (edges, operations), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: None are taken.

        Raises:
            ValueError: Neither or both of `mixture` and `arch` are given, or either does not fit the space.
        """
        if mixture is None and arch is None:
            raise ValueError("a supernet of cells has no largest net to run; give a mixture or an arch")
        check_arguments(mixture, arch, (), kwargs)
        if arch is not None:
            return self._single_path(arch, {"pixel_values": pixel_values, "labels": labels})
        shares, config = self._left(self._shares(mixture)), self.config
        mixed = {k: edge_shares(config.space.choices[k], rows, config.entangled) for k, rows in shares.items()}
        logits, _ = self.classify(
            pixel_values, lambda kind, number, edge, x: superposed_edge(edge, x, mixed[kind], number)
        )
        loss = None if labels is None else self.loss_function(labels, logits, config)
        return ImageClassifierOutput(loss=loss, logits=logits)

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
