"""Images as tensors: augmentation for training, the image processor for everything else, soft labels.

All randomness of an example is a function of (seed, epoch, example), or of (seed, position, example) in a stream. So a
resumed run sees the same tensors, on any number of processes and worker processes.
"""

from . import extra  # noqa: F401  # isort: skip

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from datasets import Dataset, IterableDataset
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2
from transformers import ViTImageProcessor
from transformers.image_utils import PILImageResampling

from .augmentation_settings import AugmentationArguments
from .files import open_image, to_channels
from .settings import ImageArguments


BICUBIC, BILINEAR = v2.InterpolationMode.BICUBIC, v2.InterpolationMode.BILINEAR


def image_processor(arguments: ImageArguments, image_size: int) -> ViTImageProcessor:
    """The processor that evaluation uses and an export carries: resize, perhaps a centre crop, scale to [0, 1], normalise.

    Args:
        arguments: Mean, standard deviation (0.5 where none are given), crop.
        image_size: Height and width of the result, in pixels.
    """
    channels = {}
    for name in ("image_mean", "image_std"):
        values = getattr(arguments, name) or [0.5]
        channels[name] = values * arguments.num_channels if len(values) == 1 else values
    resizing = resize_settings(image_size, arguments.eval_crop or 1.0)
    return ViTImageProcessor(resample=PILImageResampling.BICUBIC, **resizing, **channels)


def resize_settings(image_size: int, crop: float) -> dict:
    """Settings of a ViTImageProcessor that gives square images, from the centre crop of that share or from all of it."""
    square = {"height": image_size, "width": image_size}
    if crop == 1:
        return {"size": square, "do_center_crop": False}
    return {"size": {"shortest_edge": round(image_size / crop)}, "do_center_crop": True, "crop_size": square}


def augmentation(
    arguments: AugmentationArguments, processor: ViTImageProcessor, image_size: int, digits: bool = False
) -> v2.Compose:
    """PIL image -> normalised tensor (channels, image_size, image_size), in the order of DeiT.

    Args:
        arguments: What to do and how strongly.
        processor: Its mean and standard deviation are used.
        image_size: In pixels.
        digits: Whether `flip` is 0 where none is given.
    """
    flip = arguments.flip if arguments.flip is not None else (0.0 if digits else 0.5)
    steps = [v2.PILToTensor()]
    if arguments.crop_min_scale < 1:
        steps.append(v2.RandomResizedCrop(image_size, (arguments.crop_min_scale, 1.0), interpolation=BICUBIC))
    else:
        steps.append(v2.Resize((image_size, image_size), interpolation=BICUBIC))
    if arguments.crop_padding > 0:
        steps.append(v2.RandomCrop(image_size, arguments.crop_padding))
    if flip > 0:
        steps.append(v2.RandomHorizontalFlip(flip))
    if arguments.randaugment_magnitude > 0:
        grey = [round(255 * mean) for mean in processor.image_mean]
        steps.append(v2.RandAugment(2, arguments.randaugment_magnitude, interpolation=BILINEAR, fill=grey))
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(processor.image_mean, processor.image_std)]
    if arguments.random_erasing > 0:
        steps.append(v2.RandomErasing(arguments.random_erasing, value="random"))
    if arguments.cutout > 0:
        steps.append(v2.Lambda(lambda pixels: cut_out(pixels, arguments.cutout)))
    return v2.Compose(steps)


def cut_out(pixels: Tensor, side: int) -> Tensor:
    """Zeros in a square around a random pixel, as much of it as lies in the image (arXiv:1708.04552)."""
    height, width = pixels.shape[-2:]
    row, column = (int(torch.randint(size, ())) for size in (height, width))
    top, left = max(0, row - side // 2), max(0, column - side // 2)
    pixels = pixels.clone()
    pixels[..., top : row - side // 2 + side, left : column - side // 2 + side] = 0
    return pixels


class TrainingImages(torch.utils.data.Dataset):
    """Augmented examples {"pixel_values": (channels, size, size), "labels": () or (classes,)}, new ones in each epoch.

    With mixup, cutmix or label smoothing the labels are distributions over the classes; the model then needs
    `use_soft_targets`. Examples are mixed in pairs: neighbours of the shuffled batch, the last of an odd number with the
    first. With even batches a pair is the same on any number of processes.

    Args:
        images: A split of `load_images`, with columns `image` (undecoded) and `label`.
        transform: PIL image -> tensor, drawing random numbers from torch's generator only.
        arguments: Mixing and smoothing.
        num_channels: 1 or 3.
        seed: Seed of all randomness, together with the epoch and the example.
    """

    def __init__(
        self,
        images: Dataset,
        transform: Callable[[Image], Tensor],
        arguments: AugmentationArguments,
        num_channels: int,
        seed: int,
    ):
        self.images, self.transform, self.num_channels, self.seed = images, transform, num_channels, seed
        self.soften = _soften(arguments, len(images.features["label"].names))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the search, and by recipes that use Trainer, at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        keys = [(self.seed, self.epoch, index) for index in indices]
        examples = []
        for index, key in zip(indices, keys, strict=True):
            row = self.images[index]
            image = _decode(row, self.num_channels, f"image {index}")
            with own_randomness(*key):
                pixels = self.transform(image)
            examples.append({"pixel_values": pixels, "labels": torch.tensor(row["label"])})
        return examples if self.soften is None else _mix_pairs(examples, keys, self.soften)


class EvaluationImages(torch.utils.data.Dataset):
    """Examples {"pixel_values": (channels, size, size), "labels": ()} as the processor makes them.

    Args:
        images: A split of `load_images`, with columns `image` (undecoded) and `label`.
        processor: Image processor that resizes and normalises.
        num_channels: 1 or 3.
    """

    def __init__(self, images: Dataset, processor: ViTImageProcessor, num_channels: int):
        self.images, self.processor, self.num_channels = images, processor, num_channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return _processed(self.images[index], self.processor, self.num_channels, f"image {index}")


def training_images(
    images: Dataset | IterableDataset,
    data: ImageArguments,
    arguments: AugmentationArguments,
    processor: ViTImageProcessor,
    image_size: int,
    seed: int,
) -> TrainingImages | IterableDataset:
    """Augmented training examples: `TrainingImages`, or an endless stream of such examples.

    In a stream, position takes the place of the epoch: an image gets another augmentation each time it passes.
    """
    digits = data.dataset is None and data.train_file is None
    transform = augmentation(arguments, processor, image_size, digits)
    if not isinstance(images, IterableDataset):
        return TrainingImages(images, transform, arguments, data.num_channels, seed)
    soften = _soften(arguments, len(images.features["label"].names))

    def augmented(row: dict, position: int) -> dict:
        image = _decode(row, data.num_channels, f"image {position} of the stream")
        # The processes of a run count positions of their own; the content tells their examples apart.
        key = f"{position} {hashlib.sha256(image.tobytes()).hexdigest()}"
        with own_randomness(seed, key):
            pixels = transform(image)
        return {"pixel_values": pixels, "labels": torch.tensor(row["label"]), "key": key}

    def mixed(rows: dict) -> dict:
        examples = [
            {"pixel_values": pixels, "labels": label}
            for pixels, label in zip(rows["pixel_values"], rows["labels"], strict=True)
        ]
        if soften is not None:
            keys = [(seed, key) for key in rows["key"]]
            examples = _mix_pairs(examples, keys, soften)
        return {name: [example[name] for example in examples] for name in examples[0]}

    stream = images.repeat(None).map(augmented, with_indices=True, remove_columns=["image", "label"])
    return stream.map(mixed, batched=True, batch_size=2, remove_columns=["key"])


def evaluation_images(
    images: Dataset | IterableDataset, data: ImageArguments, processor: ViTImageProcessor
) -> EvaluationImages | IterableDataset:
    """Examples as the exported processor will make them: `EvaluationImages`, or a stream of such examples."""
    if not isinstance(images, IterableDataset):
        return EvaluationImages(images, processor, data.num_channels)
    return images.map(
        lambda row, position: _processed(row, processor, data.num_channels, f"image {position} of the stream"),
        with_indices=True,
        remove_columns=["image", "label"],
    )


@contextmanager
def own_randomness(*key) -> Iterator[None]:
    """Torch's CPU generator in a state that is a function of the key only; afterwards in the state it had before.

    The generators of GPUs, which dropout uses, are left alone.
    """
    before = torch.default_generator.get_state()
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()
    torch.default_generator.manual_seed(int.from_bytes(digest, "little"))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def _soften(arguments: AugmentationArguments, classes: int) -> Callable | None:
    """A pair of images (2, ...) and labels (2,) -> mixed images and smoothed distributions (2, classes); None without."""
    mixing = []
    if arguments.mixup > 0:
        mixing.append(v2.MixUp(alpha=arguments.mixup, num_classes=classes))
    if arguments.cutmix > 0:
        mixing.append(v2.CutMix(alpha=arguments.cutmix, num_classes=classes))
    if not mixing and arguments.label_smoothing == 0:
        return None
    mix = v2.RandomChoice(mixing) if mixing else lambda x, y: (x, torch.nn.functional.one_hot(y, classes).float())

    def soften(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = mix(pixels, labels)
        return pixels, labels * (1 - arguments.label_smoothing) + arguments.label_smoothing / classes

    return soften


def _mix_pairs(examples: list[dict], keys: list[tuple], soften: Callable) -> list[dict]:
    mixed = []
    for number in range(0, len(examples), 2):
        pair = [examples[number], examples[(number + 1) % len(examples)]]
        with own_randomness(*keys[number], "pair"):
            pixels, labels = soften(
                torch.stack([e["pixel_values"] for e in pair]), torch.stack([e["labels"] for e in pair])
            )
        mixed += [{"pixel_values": p, "labels": label} for p, label in zip(pixels, labels, strict=True)]
    return mixed[: len(examples)]


def _processed(row: dict, processor: ViTImageProcessor, num_channels: int, where: str) -> dict[str, Tensor]:
    pixels = processor(images=_decode(row, num_channels, where), return_tensors="pt")["pixel_values"][0]
    return {"pixel_values": pixels, "labels": torch.tensor(row["label"])}


def _decode(row: dict, num_channels: int, where: str) -> Image:
    where = (row["image"] or {}).get("path") or where
    if row["label"] is None or row["label"] < 0:
        raise ValueError(f"{where} has no label; use a split with labels")
    return to_channels(open_image(row["image"], where), num_channels, where)
