"""Configuration of the conv-macro supernet: that of the largest net, and the search space."""

from collections.abc import Callable
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from ...axes import AxisTable, ParameterAxes, centre, prefix, whole
from ..conv_axes import conv, linear, products
from ..spaces import complete_space, supernet_dict
from .configuration_tangle_conv_macro import TangleConvMacroConfig


CHANNELS = ("channels_1", "channels_2", "channels_3", "channels_4")


@strict
class ElasticConvMacroConfig(TangleConvMacroConfig):
    """Configuration of `ElasticConvMacroForImageClassification`. Sizes are the largest choices of the space.

    Args:
        space: Choices of `channels_1` to `channels_4`, and `kernel_size=PerLayer(choices, rows=4)`. A dimension that the
            space does not name has one choice, the config's own; one that it names gives the config's size.

    Raises:
        ValueError: The space names another dimension, its rows or the channels are not four, or a kernel size is even.
    """

    _auto_class: ClassVar[str | None] = None  # a supernet does not travel, the nets that it gives do
    embedding_parameters = ()

    space: Any = None

    def __post_init__(self, **kwargs):
        if len(self.channels) != 4:
            raise ValueError(f"channels={self.channels} must be four numbers, one per convolution")
        sizes = dict(zip(CHANNELS, self.channels, strict=True))
        sizes["kernel_size"] = {"per_layer": [max(self.kernel_size)], "rows": 4}
        self.space = complete_space(self.space, sizes, "conv-macro")
        if self.space.per_layer & set(CHANNELS) or self.space.rows("kernel_size") not in (1, 4):
            raise ValueError(
                "channels_1 to channels_4 are one choice each, and kernel_size is one or PerLayer(choices, rows=4); got "
                f"{self.space}"
            )
        if any(kernel % 2 == 0 for kernel in self.space.choices["kernel_size"]):
            raise ValueError(f"kernel_size={self.space.choices['kernel_size']} must be odd, to have the same centre")
        self.channels = [self.space.choices[name][-1] for name in CHANNELS]
        self.kernel_size = [self.space.choices["kernel_size"][-1]] * 4
        super().__post_init__(**kwargs)

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        sizes = [prefix(name, size) for name, size in zip(CHANNELS, self.channels, strict=True)]
        inputs, kernel = [whole(self.num_channels), *sizes], centre("kernel_size", self.kernel_size[0])
        table = {}
        for layer, outputs in enumerate(sizes):
            table |= conv(f"convs.{layer}", outputs, inputs[layer], kernel, layer, bias=True)
        table |= conv("convs.4", whole(self.last_channels), inputs[4], whole(7), bias=True)
        units = [self.last_channels * self.sides[-1] ** 2, *self.hidden_sizes]
        for number, size in enumerate(self.hidden_sizes):
            table |= linear(f"hidden.{number}", whole(size), whole(units[number]))
        return table | linear("classifier", whole(self.num_labels), whole(units[-1]))

    def matrix_products(self, sequence_length: int | None = None) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every convolution and linear layer of a forward pass over one image: what it depends on, and its FLOPs.

        Args:
            sequence_length: Images have none.
        """
        return products(self.axes, {f"convs.{number}.weight": side**2 for number, side in enumerate(self.sides)})

    def to_dict(self) -> dict[str, Any]:
        return supernet_dict(super().to_dict(), "TangleConvMacroForImageClassification")


__all__ = ["ElasticConvMacroConfig"]
