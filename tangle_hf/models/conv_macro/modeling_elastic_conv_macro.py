"""The conv-macro supernet: the net of the largest sizes with two more ways to run it."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from ...entangle import kernel_masks, share_mask, superpose_conv2d
from ...space import Architecture
from ..conv_supernet import ConvSupernetMixin, only_compact
from ..spaces import config_of_subnet
from .configuration_elastic_conv_macro import CHANNELS, ElasticConvMacroConfig
from .configuration_tangle_conv_macro import TangleConvMacroConfig
from .modeling_tangle_conv_macro import TangleConvMacroForImageClassification


def subnet_skeleton(
    config: ElasticConvMacroConfig, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], TangleConvMacroConfig]:
    """Class and config of an architecture."""
    kernels = arch.kernel_size if isinstance(arch.kernel_size, tuple) else [arch.kernel_size] * 4
    sizes = {"channels": [getattr(arch, name) for name in CHANNELS], "kernel_size": list(kernels)}
    return TangleConvMacroForImageClassification, TangleConvMacroConfig(**config_of_subnet(config, *sizes), **sizes)


class ElasticConvMacroForImageClassification(ConvSupernetMixin, TangleConvMacroForImageClassification):
    """Conv-macro with entangled weights for every architecture of `config.space`.

    A convolution under a mixture is `conv_i(x * m; W * K)`: m is the share of each channel of the one before, K the share of
    each tap.
    """

    config: ElasticConvMacroConfig
    config_class = ElasticConvMacroConfig
    _auto_class = None

    stock_config = TangleConvMacroConfig
    tables = {"kernel": ("convs.0.weight", 2)} | {name: (f"convs.{i}.bias", 0) for i, name in enumerate(CHANNELS)}
    subnet_forms = staticmethod(only_compact)
    subnet_skeleton = staticmethod(subnet_skeleton)

    def __init__(self, config: ElasticConvMacroConfig):
        super().__init__(config)
        self._read_axes()

    @staticmethod
    def sizes(config: TangleConvMacroConfig) -> dict[str, list[int]]:
        """What a checkpoint and the largest choices must agree on."""
        return {"channels": config.channels, "kernel_size": config.kernel_size}

    def superposed(self, pixel_values: Tensor, shares: Mapping[str, Tensor]) -> Tensor:
        tables = self._membership()
        channels = [None, *(share_mask(tables[name], shares[name][0]) for name in CHANNELS)]
        kernels = [*kernel_masks(tables["kernel"], shares["kernel_size"]).expand(4, -1, -1), None]
        return self.classify(
            pixel_values, lambda number, x: superpose_conv2d(self.convs[number], x, channels[number], kernels[number])
        )


__all__ = ["ElasticConvMacroForImageClassification"]
