"""conv-macro: the supernet (`*elastic*`), the plain net (`*tangle*`), and what an architecture owns."""

from .configuration_elastic_conv_macro import ElasticConvMacroConfig
from .configuration_tangle_conv_macro import TangleConvMacroConfig
from .modeling_elastic_conv_macro import ElasticConvMacroForImageClassification
from .modeling_tangle_conv_macro import TangleConvMacroForImageClassification


# Whoever saves a plain net ships its files, so that it loads where this library is not installed.
TangleConvMacroConfig.register_for_auto_class()
TangleConvMacroForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ElasticConvMacroConfig",
    "ElasticConvMacroForImageClassification",
    "TangleConvMacroConfig",
    "TangleConvMacroForImageClassification",
]
