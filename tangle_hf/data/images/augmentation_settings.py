"""How training images are augmented, as arguments."""

from dataclasses import dataclass, field


@dataclass
class AugmentationArguments:
    """Augmentation of the training images. The defaults are mild; the help gives the values of DeiT, which the paper uses.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "augmentation"

    crop_min_scale: float = field(
        default=0.6, metadata={"help": "smallest share of the area in a random crop; 1 for no crop, DeiT 0.08"}
    )
    crop_padding: int = field(
        default=0,
        metadata={"help": "zeros around the image, in pixels, of which a random crop of its size is taken; CIFAR 4 (with "
                          "crop_min_scale 1)"},
    )  # fmt: skip
    flip: float | None = field(
        default=None,
        metadata={"help": "probability of a horizontal flip; default: 0.5, and 0 for the embedded digits, which it would "
                          "turn into something else; use 0 for your own digits and letters, too"},
    )  # fmt: skip
    randaugment_magnitude: int = field(
        default=0,
        metadata={"help": "strength of RandAugment's two operations, 0 (off) to 30; DeiT's 9 of 10 is 27 of 30"},
    )
    random_erasing: float = field(
        default=0.0, metadata={"help": "probability that a rectangle is replaced by noise; DeiT 0.25"}
    )
    cutout: int = field(
        default=0,
        metadata={"help": "side of a square somewhere in the image that is set to the mean, in pixels; DARTS 16"},
    )
    mixup: float = field(default=0.0, metadata={"help": "alpha of mixup, 0 for none; DeiT 0.8"})
    cutmix: float = field(default=0.0, metadata={"help": "alpha of cutmix, 0 for none; DeiT 1.0. With both: either"})
    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of the label that is spread over all classes, in [0, 1); DeiT 0.1"}
    )

    def __post_init__(self):
        if not 0 < self.crop_min_scale <= 1:
            raise ValueError(f"crop_min_scale={self.crop_min_scale} must be above 0 and at most 1")
        for name in ("flip", "random_erasing"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a probability and must be from 0 to 1")
        if not 0 <= self.randaugment_magnitude <= 30:
            raise ValueError(f"randaugment_magnitude={self.randaugment_magnitude} must be from 0 to 30")
        for name in ("mixup", "cutmix", "crop_padding", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative; 0 switches it off")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must be at least 0 and below 1")
