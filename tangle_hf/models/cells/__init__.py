"""Cells: the supernet (`*elastic*`), the plain net (`*tangle*`), and what an architecture owns."""

from .configuration_elastic_cells import ElasticCellsConfig
from .configuration_tangle_cells import TangleCellsConfig
from .modeling_elastic_cells import ElasticCellsForImageClassification
from .modeling_tangle_cells import TangleCellsForImageClassification


# Whoever saves a plain net ships its files, so that it loads where this library is not installed.
TangleCellsConfig.register_for_auto_class()
TangleCellsForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ElasticCellsConfig",
    "ElasticCellsForImageClassification",
    "TangleCellsConfig",
    "TangleCellsForImageClassification",
]
