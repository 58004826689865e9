"""The MobileNetV3 supernet: the net of the largest sizes with two more ways to run it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from ...entangle import kernel_masks, share_mask, share_sum
from ...space import Architecture
from ..conv_supernet import ConvSupernetMixin, only_compact
from ..spaces import config_of_subnet
from .configuration_elastic_mobilenetv3 import ElasticMobileNetV3Config
from .configuration_tangle_mobilenetv3 import TangleMobileNetV3Config
from .modeling_tangle_mobilenetv3 import ConvNorm, TangleMobileNetV3ForImageClassification
from .superposed_mobilenetv3 import BlockShares, superposed_block, transform_name, transformed_kernel


def subnet_skeleton(
    config: ElasticMobileNetV3Config, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], TangleMobileNetV3Config]:
    """Class and config of an architecture."""
    layers = [layer for layer in range(config.space.stages * config.space.max_depth) if arch.has_layer(layer)]
    sizes = {"depths": list(arch.depths)}
    for name in ("kernel_size", "expand_ratio"):
        value = getattr(arch, name)
        sizes[name] = [value[layer] if isinstance(value, tuple) else value for layer in layers]
    common = config_of_subnet(config, "kernel_transform", *sizes)
    return TangleMobileNetV3ForImageClassification, TangleMobileNetV3Config(**common, **sizes)


class ElasticMobileNetV3ForImageClassification(ConvSupernetMixin, TangleMobileNetV3ForImageClassification):
    """MobileNetV3 with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest net; with `config.kernel_transform` there are the matrices in addition.
    A stage of several depths gives `sum_d share_d x_d`, x_d what its first d blocks give.
    """

    config: ElasticMobileNetV3Config
    config_class = ElasticMobileNetV3Config
    _auto_class = None

    stock_config = TangleMobileNetV3Config
    subnet_forms = staticmethod(only_compact)
    subnet_skeleton = staticmethod(subnet_skeleton)

    def __init__(self, config: ElasticMobileNetV3Config):
        super().__init__(config)
        if config.kernel_transform:
            for block in self._blocks():
                for size in config.space.choices["kernel_size"][:-1]:
                    matrix = nn.Parameter(torch.eye(size**2))
                    block.depthwise.register_parameter(transform_name(size), matrix)
        self._read_axes()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ConvNorm):
            for name, matrix in module.named_parameters(recurse=False):
                if name.startswith("transform"):
                    init.eye_(matrix)

    @property
    def tables(self) -> dict[str, tuple[str, int]]:
        """Inner channels of every block, and of its squeeze-excite; taps of a kernel."""
        tables = {"kernel": ("stages.0.0.depthwise.conv.weight", 2)}
        for number, (stage, block) in enumerate(self.config.block_inputs):
            name = f"stages.{stage}.{block}"
            tables[f"inner_{number}"] = (f"{name}.project.conv.weight", 1)
            if self.config.squeeze_excite[stage + 2]:
                tables[f"squeezed_{number}"] = (f"{name}.squeeze_excite.expand.weight", 1)
        return tables

    @staticmethod
    def sizes(config: TangleMobileNetV3Config) -> dict[str, list]:
        """What a checkpoint and the largest choices must agree on."""
        return {name: getattr(config, name) for name in ("depths", "kernel_size", "expand_ratio")}

    def superposed(self, pixel_values: Tensor, shares: Mapping[str, Tensor]) -> Tensor:
        space, layers = self.config.space, self._layer_shares(shares)
        x = self.first(self.stem(pixel_values))
        for number, stage in enumerate(self.stages):
            ends = []
            for depth, block in enumerate(stage, 1):
                x = superposed_block(block, x, next(layers), space.choices["kernel_size"])
                if depth in space.depths:
                    ends.append(x)
            x = share_sum(shares["depths"][number], ends) if len(ends) > 1 else x
        return self.classify(x)

    def _layer_shares(self, shares: Mapping[str, Tensor]):
        """The mixture as every block sees it, one stage after the other."""
        tables, layers = self._membership(), len(self.config.block_inputs)
        kernels, ratios = (shares[name].expand(layers, -1) for name in ("kernel_size", "expand_ratio"))
        taps = kernel_masks(tables["kernel"], kernels)
        for number in range(layers):
            masks = [
                share_mask(tables[f"{name}_{number}"], ratios[number]) if f"{name}_{number}" in tables else None
                for name in ("inner", "squeezed")
            ]
            yield BlockShares(*masks, taps[number], kernels[number])

    def slices(self, arch: Architecture) -> dict[str, Tensor]:
        cut = super().slices(arch)
        if self.config.kernel_transform:
            sizes = self.space.choices["kernel_size"]
            for layer, block in enumerate(self._blocks()):
                if arch.has_layer(layer):
                    stage, number = divmod(layer, self.space.max_depth)
                    name = f"stages.{stage}.{number}.depthwise.conv.weight"
                    channels, size = cut[name].shape[0], cut[name].shape[-1]
                    cut[name] = transformed_kernel(block.depthwise, sizes[sizes.index(size) :])[:channels]
        return cut

    def _blocks(self) -> list[nn.Module]:
        return [block for stage in self.stages for block in stage]


__all__ = ["ElasticMobileNetV3ForImageClassification"]
