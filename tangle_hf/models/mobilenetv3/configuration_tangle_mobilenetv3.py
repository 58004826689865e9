"""Configuration of MobileNetV3 with blocks of different sizes. Travels with checkpoints as remote code, so it stands alone."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


def make_divisible(channels: float, divisor: int) -> int:
    """The nearest multiple of a divisor, not more than 10% below (MobileNet's rule for numbers of channels)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@strict
class TangleMobileNetV3Config(PreTrainedConfig):
    """MobileNetV3 (arXiv:1905.02244) as once-for-all (arXiv:1908.09791) lays it out: stages whose blocks have a kernel size
    and an expansion each.

    Lists of stages begin with the stem and the first block, which have no choice. The defaults are once-for-all's largest
    net of width 1.

    Args:
        num_channels: Channels of the images.
        image_size: Height and width of the images, in pixels; others may be given to the model.
        hidden_sizes: Output channels of stem, first block and stages, before `width_multiplier`.
        head_sizes: Channels in front of and behind the global pooling, before `width_multiplier`.
        strides: Strides of stem, first block, and the first block of every stage.
        hidden_acts: Activations of stem, first block and stages; "relu" or "hardswish".
        squeeze_excite: Whether the blocks of stem, first block and stages have squeeze-excite; the stem never has.
        depths: Blocks of every stage.
        kernel_size: Kernel size of every block, one stage after the other; odd.
        expand_ratio: Expansion of every block: the inner channels are `make_divisible(round(ratio * input channels))`.
        width_multiplier: Multiplies all numbers of channels, rounded by `make_divisible`.
        depth_divisible_by: Numbers of channels are multiples of this one.
        squeeze_ratio: Inner channels of squeeze-excite are the block's divided by this, rounded by `make_divisible`.
        batch_norm_eps: Added to variances.
        batch_norm_momentum: Share of a batch in the running statistics.
        classifier_dropout_prob: Dropout of the classifier's input.
        initializer_range: Standard deviation of the weights of linear layers.

    Raises:
        ValueError: Lists of stages or blocks have different lengths, a kernel is even, a stride is below 1, or the image is too
            small.
    """

    model_type = "tangle_mobilenetv3"

    num_channels: int = 3
    image_size: int = 224
    hidden_sizes: list[int] | tuple[int, ...] = (16, 16, 24, 40, 80, 112, 160)
    head_sizes: list[int] | tuple[int, ...] = (960, 1280)
    strides: list[int] | tuple[int, ...] = (2, 1, 2, 2, 2, 1, 2)
    hidden_acts: list[str] | tuple[str, ...] = ("hardswish", *("relu",) * 3, *("hardswish",) * 3)
    squeeze_excite: list[bool] | tuple[bool, ...] = (False, False, False, True, False, True, True)
    depths: list[int] | tuple[int, ...] = (4,) * 5
    kernel_size: list[int] | tuple[int, ...] = (7,) * 20
    expand_ratio: list[int | float] | tuple[int | float, ...] = (6,) * 20
    width_multiplier: float = 1.0
    depth_divisible_by: int = 8
    squeeze_ratio: int = 4
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1
    classifier_dropout_prob: float = 0.1
    initializer_range: float = 0.01

    def __post_init__(self, **kwargs):
        stages = ("hidden_sizes", "strides", "hidden_acts", "squeeze_excite")
        blocks = ("depths", "kernel_size", "expand_ratio")
        for name in (*stages, *blocks, "head_sizes"):
            setattr(self, name, list(getattr(self, name)))
        if len({len(getattr(self, name)) for name in stages} | {len(self.depths) + 2}) > 1:
            lengths = {name: len(getattr(self, name)) for name in (*stages, "depths")}
            raise ValueError(
                f"{stages} need one value more than depths for the stem and one for the first block, got {lengths}"
            )
        for name in blocks[1:]:
            if len(getattr(self, name)) != sum(self.depths):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} values for {sum(self.depths)} blocks; give one per block"
                )
        if even := [kernel for kernel in self.kernel_size if kernel % 2 == 0]:
            raise ValueError(f"kernel_size={even} must be odd")
        if min(self.strides) < 1:
            raise ValueError(f"strides={self.strides} must be at least 1")
        if self.image_size < self.stride:
            raise ValueError(
                f"image_size={self.image_size} is smaller than the network's stride, {self.stride}; lower strides"
            )
        super().__post_init__(**kwargs)

    @property
    def stride(self) -> int:
        """Pixels of an image per position in front of the classifier, in each direction."""
        stride = 1
        for step in self.strides:
            stride *= step
        return stride

    def width(self, channels: int) -> int:
        """A number of channels times `width_multiplier`."""
        return make_divisible(channels * self.width_multiplier, self.depth_divisible_by)

    def inner_channels(self, inputs: int, ratio: float) -> int:
        """Inner channels of a block."""
        return make_divisible(round(inputs * ratio), self.depth_divisible_by)

    def squeezed_channels(self, channels: int) -> int:
        """Inner channels of squeeze-excite."""
        return make_divisible(channels // self.squeeze_ratio, self.depth_divisible_by)


__all__ = ["TangleMobileNetV3Config"]
