"""MobileNetV3 as once-for-all: the supernet (`*elastic*`), the plain net (`*tangle*`), and what an architecture owns."""

from .configuration_elastic_mobilenetv3 import ElasticMobileNetV3Config
from .configuration_tangle_mobilenetv3 import TangleMobileNetV3Config
from .modeling_elastic_mobilenetv3 import ElasticMobileNetV3ForImageClassification
from .modeling_tangle_mobilenetv3 import TangleMobileNetV3ForImageClassification


# Whoever saves a plain net ships its files, so that it loads where this library is not installed.
TangleMobileNetV3Config.register_for_auto_class()
TangleMobileNetV3ForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ElasticMobileNetV3Config",
    "ElasticMobileNetV3ForImageClassification",
    "TangleMobileNetV3Config",
    "TangleMobileNetV3ForImageClassification",
]
