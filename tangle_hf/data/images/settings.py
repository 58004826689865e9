"""Which images a vision recipe takes, as arguments."""

from dataclasses import dataclass, field
from pathlib import Path

from ..files import in_words, one_or_many


CUT = "cut"  # what a split is called that is not read, but taken out of the training images


@dataclass
class ImageArguments:
    """Which images, in which size. With nothing given: the 1,797 handwritten digits inside scikit-learn, 8x8 and grey.

    Raises:
        ValueError: A number is out of its range, or two settings exclude each other.
    """

    _argument_group_name = "data"

    dataset: str | None = field(
        default=None,
        metadata={
            "main": True,
            "help": "Hub name, or a local folder: class folders of images (first folders called train, validation, val, test "
                    "or the like are splits), data files, or what save_to_disk left"
        },
    )  # fmt: skip
    dataset_config: str | None = field(default=None, metadata={"help": "configuration of that dataset"})
    train_file: list[str] | None = field(
        default=None, metadata={"help": "training images: .parquet files, or folders or patterns of such"}
    )
    validation_file: list[str] | None = field(
        default=None, metadata={"help": "validation images; default: cut from train"}
    )
    test_file: list[str] | None = field(default=None, metadata={"help": "test images; default: cut from train"})
    train_split: str = field(default="train", metadata={"help": "split of the dataset to train on"})
    validation_split: str | None = field(
        default=None,
        metadata={"help": "split to validate on; default: validation, valid, val or dev if there is one, else cut; "
                          "'cut' takes a class-balanced 20th of the training images"},
    )  # fmt: skip
    test_split: str | None = field(
        default=None, metadata={"help": "split to test on; default: test, testing or eval if there is one, else cut"}
    )
    image_column: str | None = field(default=None, metadata={"help": "column of the images; default: the only one"})
    label_column: str | None = field(default=None, metadata={"help": "column of the labels; default: the only one"})
    image_size: int | None = field(
        default=None,
        metadata={"help": "height and width given to the model; default: those of the first image, and in fine-tuning "
                          "those of the checkpoint"},
    )  # fmt: skip
    num_channels: int = field(
        default=3,
        metadata={"help": "3 (grey images are repeated) or 1 (grey images only; an image-classification pipeline then "
                          "wants arrays of shape (1, height, width), since it turns other images into RGB)"},
    )  # fmt: skip
    image_mean: list[float] = field(
        default_factory=list, metadata={"help": "mean of each channel, in [0, 1]; default: 0.5, or the checkpoint's"}
    )
    image_std: list[float] = field(
        default_factory=list,
        metadata={"help": "standard deviation of each channel; default: 0.5, or the checkpoint's"},
    )
    eval_crop: float | None = field(
        default=None,
        metadata={"help": "side of the centre crop that is evaluated / shorter side of the image, 0.875 for DeiT; "
                          "1: the whole image, squeezed into a square; default: 1, or the checkpoint's"},
    )  # fmt: skip
    classes: int | None = field(default=None, metadata={"help": "keep the first so many classes only"})
    samples_per_class: int | None = field(
        default=None, metadata={"help": "keep so many training images of each class, for quick trials"}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "keep so many training images, with the shares of the classes unchanged"}
    )
    data_seed: int = field(
        default=0,
        metadata={"help": "seed of cutting, subsampling and the order of the validation images, apart from --seed: "
                          "all seeds see the same images"},
    )  # fmt: skip
    streaming: bool = field(
        default=False,
        metadata={"help": "read the dataset as a stream, in its own order and without downloading it all. Class folders "
                          "come class by class: shuffle them beforehand, into parquet files. Parts are told apart by a "
                          "checksum of each image: they never overlap, but classes are balanced only on average, and "
                          "missing classes are not noticed"},
    )  # fmt: skip
    skip_corrupt_images: bool = field(
        default=False,
        metadata={"help": "read every image once before the start and leave out those that cannot be read"},
    )
    preprocessing_workers: int | None = field(
        default=None, metadata={"help": "processes that read images for skip_corrupt_images"}
    )

    def __post_init__(self):
        for name in ("train_file", "validation_file", "test_file"):
            setattr(self, name, one_or_many(getattr(self, name)))
        if self.dataset and self.train_file:
            raise ValueError(f"dataset={self.dataset} and train_file={self.train_file} are both given; choose one")
        if not self.train_file and (self.validation_file or self.test_file):
            raise ValueError("validation_file and test_file need a train_file")
        for name in ("image_size", "classes", "samples_per_class", "max_train_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.preprocessing_workers is not None and self.preprocessing_workers < 0:
            raise ValueError(f"preprocessing_workers={self.preprocessing_workers} must not be negative")
        if self.classes == 1:
            raise ValueError("classes=1 leaves nothing to tell apart; use at least 2")
        if self.num_channels not in (1, 3):
            raise ValueError(f"num_channels={self.num_channels} must be 1 (grey) or 3 (RGB)")
        if self.eval_crop is not None and not 0.1 <= self.eval_crop <= 1:
            raise ValueError(f"eval_crop={self.eval_crop} must be from 0.1 to 1")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if values and len(values) not in (1, self.num_channels):
                raise ValueError(
                    f"{name}={values} must have one number, or one for each of {self.num_channels} channels"
                )
        if any(value <= 0 for value in self.image_std):
            raise ValueError(f"image_std={self.image_std} must be above 0")
        if self.samples_per_class and self.max_train_samples:
            raise ValueError("samples_per_class and max_train_samples are both given; choose one")
        if self.streaming and (self.samples_per_class or self.max_train_samples):
            raise ValueError(
                "samples_per_class and max_train_samples need to count images beforehand, which a stream does not; "
                "leave out --streaming, or shorten the run with --max_steps"
            )


def describe(arguments: ImageArguments) -> str:
    """What the images are, in a few words and without the folders of this machine."""
    if arguments.train_file is not None:
        return f"the images of {in_words(arguments.train_file)}"
    if arguments.dataset is None:
        return "the handwritten digits inside scikit-learn (load_digits)"
    return in_words(arguments.dataset) if Path(arguments.dataset).expanduser().exists() else arguments.dataset
