"""Convolutional nets: supernets (`*elastic*`), the plain nets that they give (`*tangle*`), and what these own (axes)."""

from .configuration_elastic_cells import ElasticCellsConfig
from .configuration_elastic_conv_macro import ElasticConvMacroConfig
from .configuration_elastic_mobilenetv3 import ElasticMobileNetV3Config
from .configuration_tangle_cells import TangleCellsConfig
from .configuration_tangle_conv_macro import TangleConvMacroConfig
from .configuration_tangle_mobilenetv3 import TangleMobileNetV3Config
from .modeling_elastic_cells import ElasticCellsForImageClassification
from .modeling_elastic_conv_macro import ElasticConvMacroForImageClassification
from .modeling_elastic_mobilenetv3 import ElasticMobileNetV3ForImageClassification
from .modeling_tangle_cells import TangleCellsForImageClassification
from .modeling_tangle_conv_macro import TangleConvMacroForImageClassification
from .modeling_tangle_mobilenetv3 import TangleMobileNetV3ForImageClassification


# Whoever saves a plain net ships its two files, so that it loads where this library is not installed.
for _config in (TangleCellsConfig, TangleConvMacroConfig, TangleMobileNetV3Config):
    _config.register_for_auto_class()
for _model in (
    TangleCellsForImageClassification,
    TangleConvMacroForImageClassification,
    TangleMobileNetV3ForImageClassification,
):
    _model.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ElasticCellsConfig",
    "ElasticCellsForImageClassification",
    "TangleCellsConfig",
    "TangleCellsForImageClassification",
    "ElasticConvMacroConfig",
    "ElasticConvMacroForImageClassification",
    "ElasticMobileNetV3Config",
    "ElasticMobileNetV3ForImageClassification",
    "TangleConvMacroConfig",
    "TangleConvMacroForImageClassification",
    "TangleMobileNetV3Config",
    "TangleMobileNetV3ForImageClassification",
]
