"""One image, from a file to pixels: open it, give it the channels of the model, tell it from others, skip it if corrupt."""

import io
import os
import zlib
from pathlib import Path

import fsspec
from datasets import Dataset, IterableDataset
from image_arguments import ImageArguments
from PIL import Image as PILImage
from PIL import ImageOps


GREY = ("1", "L", "LA")  # modes of PIL


def open_image(cell: dict, where: str, mode: str | None = None) -> PILImage.Image:
    """The decoded image of a cell of the column `image`, upright.

    Args:
        cell: {"bytes": content or None, "path": file or None}.
        where: What to call an image without a path in an error.
        mode: PIL mode to convert to, or None.

    Raises:
        ValueError: The file is missing or corrupt; the message names it.
    """
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise ValueError(f"{where} is missing; remove the row, or use --skip_corrupt_images")
    try:
        content = cell["bytes"]
        if content is None:
            with fsspec.open(cell["path"], "rb") as file:  # a local file, or inside an archive, or on the Hub
                content = file.read()
        image = ImageOps.exif_transpose(PILImage.open(io.BytesIO(content)))
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        raise ValueError(
            f"{cell['path'] or where} is not a readable image ({error}); repair or remove it, or use "
            "--skip_corrupt_images"
        ) from error
    return image if mode is None else image.convert(mode)


def to_channels(image: PILImage.Image, num_channels: int, where: str) -> PILImage.Image:
    """The image as RGB (3 channels: grey is repeated, transparency dropped) or grey (1 channel).

    Raises:
        ValueError: A coloured image where grey is expected, or more than 8 bits per channel.
    """
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(
            f"{where} has mode {image.mode}, more than 8 bits per channel, which a conversion would cut off; store it "
            "with 8 bits"
        )
    if num_channels == 1 and image.mode not in GREY:
        raise ValueError(f"{where} is coloured (mode {image.mode}), num_channels=1 is for grey ones; use 3")
    # As the pipelines of transformers do it: what is evaluated is what they will see.
    return image.convert("RGB" if num_channels == 3 else "L")


def check_channels(row: dict, num_channels: int) -> None:
    """Says that grey images are repeated, going by the first training image.

    Raises:
        ValueError: As `open_image` and `to_channels`.
    """
    image = open_image(row["image"], "the first training image")
    to_channels(image, num_channels, "the first training image")
    if num_channels == 3 and image.mode in GREY:
        _say("the images are grey; they are repeated to 3 channels")


def checksum(row: dict) -> int:
    """A number of the image's content, or of its folder and name where the content is not at hand."""
    cell = row["image"] or {"bytes": b"", "path": None}  # a missing image is refused, or left out, where it is decoded
    if cell["bytes"] is not None:
        return zlib.crc32(cell["bytes"])
    inside = cell["path"].split("::")[0]  # of an archive: zip://folder/name::archive
    return zlib.crc32("/".join(Path(inside).parts[-2:]).encode())


def only_readable(split: Dataset | IterableDataset, name: str, arguments: ImageArguments):
    """The split without corrupt images, and how many there were; a stream tells of each as it comes."""

    def readable(row: dict) -> bool:
        try:
            open_image(row["image"], f"an image of {name}")
        except ValueError as error:
            if arguments.streaming:
                _say(f"skipped: {error}")
            return False
        return True

    if isinstance(split, IterableDataset):
        return split.filter(readable)
    kept = split.filter(readable, num_proc=arguments.preprocessing_workers, desc=f"reading {name} images")
    if len(kept) < len(split):
        _say(f"{len(split) - len(kept)} of {len(split)} {name} images are corrupt and left out")
    return kept


def _say(text: str) -> None:
    """Prints on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(text)
