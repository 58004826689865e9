"""ViT: the supernet (`*elastic*`), the compact exported model (`*tangle*`), and what an architecture owns (axes)."""

from .configuration_elastic_vit import ElasticViTConfig
from .configuration_tangle_vit import TangleViTConfig
from .modeling_elastic_vit import ElasticViTForImageClassification
from .modeling_tangle_vit import TangleViTForImageClassification, TangleViTModel


# Whoever saves a compact model ships its two files, so that it loads where this library is not installed.
TangleViTConfig.register_for_auto_class()
TangleViTModel.register_for_auto_class("AutoModel")
TangleViTForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ElasticViTConfig",
    "ElasticViTForImageClassification",
    "TangleViTConfig",
    "TangleViTForImageClassification",
    "TangleViTModel",
]
