"""Configuration of conv-macro. Travels with checkpoints as remote code, so it stands alone."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class TangleConvMacroConfig(PreTrainedConfig):
    """Four convolutions with a number of channels and a kernel size each: the toy space of TangleNAS (arXiv:2312.10440,
    appendix C).

    Args:
        num_channels: Channels of the images.
        image_size: Height and width of the images, in pixels.
        channels: Output channels of the four convolutions.
        kernel_size: Kernel sizes of the four convolutions, odd.
        last_channels: Output channels of the last convolution, 7x7 without a choice.
        hidden_sizes: Units of the linear layers in front of the classifier.
        dropout: Probability that a channel is dropped, twice, and in training only.

    Raises:
        ValueError: Not four numbers, a kernel without a centre, or an image that is too small.
    """

    model_type = "tangle_conv_macro"

    num_channels: int = 3
    image_size: int = 32
    channels: list[int] | tuple[int, ...] = (32, 64, 128, 256)
    kernel_size: list[int] | tuple[int, ...] = (7, 7, 7, 7)
    last_channels: int = 256
    hidden_sizes: list[int] | tuple[int, ...] = (256, 128, 64)
    dropout: float = 0.5

    def __post_init__(self, **kwargs):
        self.channels, self.kernel_size = list(self.channels), list(self.kernel_size)
        self.hidden_sizes = list(self.hidden_sizes)
        for name, values in (("channels", self.channels), ("kernel_size", self.kernel_size)):
            if len(values) != 4 or min(values) < 1:
                raise ValueError(f"{name}={values} must be four numbers of at least 1, one per convolution")
        if even := [kernel for kernel in self.kernel_size if kernel % 2 == 0]:
            raise ValueError(f"kernel_size={even} must be odd")
        if self.image_size < 12:
            raise ValueError(
                f"image_size={self.image_size} is too small for this network; it needs at least 12 pixels"
            )
        super().__post_init__(**kwargs)

    @property
    def sides(self) -> list[int]:
        """Height and width of the output of the five convolutions: pooled after the second and the third, cut by the fifth."""
        side = self.image_size
        return [side, side, side // 2, side // 4, side // 4 - 2]


__all__ = ["TangleConvMacroConfig"]
