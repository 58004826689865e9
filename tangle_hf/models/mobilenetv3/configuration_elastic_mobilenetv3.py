"""Configuration of the MobileNetV3 supernet: that of the largest net, and the search space."""

from collections.abc import Callable
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from ...axes import Axis, AxisTable, ParameterAxes, centre, whole
from ..conv_axes import batch_norm, conv, linear, products
from ..spaces import complete_space, supernet_dict
from .configuration_tangle_mobilenetv3 import TangleMobileNetV3Config


@strict
class ElasticMobileNetV3Config(TangleMobileNetV3Config):
    """Configuration of `ElasticMobileNetV3ForImageClassification`. Sizes are the largest choices of the space.

    Args:
        space: Choices of `depths`, one per stage; of `kernel_size` and `expand_ratio`, one per block or one for all, e.g.
            `SearchSpace(depths=PerLayer([2, 3, 4], rows=5), kernel_size=PerLayer([3, 5, 7]), expand_ratio=PerLayer([3, 4,
            6]))`. A dimension that the space does not name has one choice, the config's own largest.
        kernel_transform: Whether a smaller kernel is the centre of the next larger one times a matrix that all channels of
            a block share and that is trained along (arXiv:1908.09791, section 3.2), instead of the centre itself.

    Raises:
        ValueError: The space names another dimension, depths are not one per stage, or a kernel size is even.
    """

    _auto_class: ClassVar[str | None] = None  # a supernet does not travel, the nets that it gives do
    embedding_parameters = ()

    space: Any = None
    kernel_transform: bool = False

    def __post_init__(self, **kwargs):
        stages = len(self.hidden_sizes) - 2
        sizes = {
            "depths": {"per_layer": [max(self.depths)], "rows": stages},
            "kernel_size": {"per_layer": [max(self.kernel_size)]},
            "expand_ratio": {"per_layer": [max(self.expand_ratio)]},
        }
        self.space = complete_space(self.space, sizes, "MobileNetV3")
        if "depths" not in self.space.per_layer or self.space.stages != stages:
            raise ValueError(f"depths are chosen per stage; write depths=PerLayer(choices, rows={stages})")
        if any(kernel % 2 == 0 for kernel in self.space.choices["kernel_size"]):
            raise ValueError(f"kernel_size={self.space.choices['kernel_size']} must be odd, to have the same centre")
        largest = {name: choices[-1] for name, choices in self.space.choices.items()}
        blocks = stages * self.space.max_depth
        self.depths = [largest["depths"]] * stages
        self.kernel_size, self.expand_ratio = ([largest[n]] * blocks for n in ("kernel_size", "expand_ratio"))
        super().__post_init__(**kwargs)

    @property
    def block_inputs(self) -> dict[tuple[int, int], int]:
        """(stage, block) -> input channels."""
        widths = [self.width(channels) for channels in self.hidden_sizes[1:]]
        return {
            (stage, block): widths[stage + (block > 0)]
            for stage in range(self.space.stages)
            for block in range(self.space.max_depth)
        }

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        stem, first, *widths = map(whole, map(self.width, self.hidden_sizes))
        table = conv("stem.conv", stem, whole(self.num_channels), whole(3)) | batch_norm("stem.norm", stem)
        table |= self._block("first", None, None, stem, first, whole(3), self.squeeze_excite[1])
        kernel = centre("kernel_size", self.kernel_size[0])
        for layer, ((stage, block), inputs) in enumerate(self.block_inputs.items()):
            squeeze = self.squeeze_excite[stage + 2]
            table |= self._block(f"stages.{stage}.{block}", layer, inputs, None, widths[stage], kernel, squeeze)
            if self.kernel_transform:  # no subnet has them: what they do is in its kernels
                for small in self.space.choices["kernel_size"][:-1]:
                    nothing = Axis((), lambda taps=small**2: ((taps, slice(0)),))
                    name = f"stages.{stage}.{block}.depthwise.transform_{small}"
                    table |= {name: ParameterAxes((nothing, whole(small**2)), layer)}
        before, behind = map(whole, map(self.width, self.head_sizes))
        table |= conv("head.conv", before, widths[-1]) | batch_norm("head.norm", before)
        table |= linear("mix", behind, before, bias=False)
        return table | linear("classifier", whole(self.num_labels), behind)

    def _block(
        self,
        name: str,
        layer: int | None,
        inputs: int | None,
        inner: Axis | None,
        outputs: Axis,
        kernel: Axis,
        squeeze_excite: bool,
    ) -> AxisTable:
        """The entries of a block that expands its inputs, or of one whose inner channels are given."""
        table = {}
        if inner is None:
            inner = self._inner(inputs, lambda channels: channels)
            table |= conv(f"{name}.expand.conv", inner, whole(inputs), layer=layer)
            table |= batch_norm(f"{name}.expand.norm", inner, layer)
            squeezed = self._inner(inputs, self.squeezed_channels)
        else:
            squeezed = whole(self.squeezed_channels(inner.block()[0][0]))
        table |= conv(f"{name}.depthwise.conv", inner, whole(1), kernel, layer)
        table |= batch_norm(f"{name}.depthwise.norm", inner, layer)
        if squeeze_excite:
            table |= linear(f"{name}.squeeze_excite.reduce", squeezed, inner, layer)
            table |= linear(f"{name}.squeeze_excite.expand", inner, squeezed, layer)
        table |= conv(f"{name}.project.conv", outputs, inner, layer=layer)
        return table | batch_norm(f"{name}.project.norm", outputs, layer)

    def _inner(self, inputs: int, of: Callable[[int], int]) -> Axis:
        """An axis whose owned prefix is a function of a block's inner channels."""
        size = of(self.inner_channels(inputs, self.space.choices["expand_ratio"][-1]))
        return Axis(("expand_ratio",), lambda ratio: ((size, slice(of(self.inner_channels(inputs, ratio)))),))

    def matrix_products(self, sequence_length: int | None = None) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every convolution and linear layer of a forward pass over one image: what it depends on, and its FLOPs.

        Args:
            sequence_length: Images have none.
        """
        axes, positions = self.axes, {}
        sides = [self.image_size]
        for stride in self.strides:
            sides.append(-(-sides[-1] // stride))
        for name in axes:
            module, *rest = name.split(".")
            if module == "stages":  # the expansion of the first block is in front of the stride
                stage, block, part = int(rest[0]), int(rest[1]), rest[2]
                positions[name] = sides[stage + 2 + (block > 0 or part != "expand")] ** 2
            else:
                positions[name] = {"stem": sides[1], "first": sides[2], "head": sides[-1]}.get(module, 1) ** 2
            if "squeeze_excite" in name:
                positions[name] = 1
        return products({name: entry for name, entry in axes.items() if "transform" not in name}, positions)

    def to_dict(self) -> dict[str, Any]:
        return supernet_dict(super().to_dict(), "TangleMobileNetV3ForImageClassification")


__all__ = ["ElasticMobileNetV3Config"]
