"""One image, from a file to pixels: open it, give it the channels of the model, tell it from others, skip it if corrupt."""

import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import fsspec
from datasets import Dataset, Features, IterableDataset, Value
from PIL import Image as PILImage
from PIL import ImageOps

from ..files import say
from .settings import ImageArguments


GREY = ("1", "L", "LA")  # modes of PIL
NAMED = 3  # corrupt images that a message names


def open_image(cell: dict, where: str, mode: str | None = None) -> PILImage.Image:
    """The decoded image of a cell of the column `image`, upright.

    Args:
        cell: {"bytes": content or None, "path": file or None}.
        where: What to call an image without a path in an error.
        mode: PIL mode to convert to, or None.

    Raises:
        ValueError: The file is missing or corrupt; the message names it.
    """
    try:
        image = _decoded(cell, where)
    except ValueError as error:
        raise ValueError(
            f"{error}; repair or remove it, or use --skip_corrupt_images, for a run that has begun in a new --output_dir"
        ) from error
    return image if mode is None else image.convert(mode)


def _decoded(cell: dict | None, where: str) -> PILImage.Image:
    """Decodes a cell of the column `image`; an error says what is wrong, its advice is added by `open_image`."""
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise ValueError(f"{where} is missing")
    try:
        content = cell["bytes"]
        if content is None:
            with fsspec.open(cell["path"], "rb") as file:  # a local file, or inside an archive, or on the Hub
                content = file.read()
        return ImageOps.exif_transpose(PILImage.open(io.BytesIO(content)))
    except Exception as error:  # PIL has many kinds of errors for damaged content, struct.error among them
        reason = re.sub(r" <_io\.\w+ object at \w+>", "", str(error))  # PIL calls content in memory so
        raise ValueError(f"{cell['path'] or where} is not a readable image ({reason})") from error


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


def check_channels(first: Mapping[str, dict], num_channels: int) -> None:
    """Says that grey images are repeated and transparency is dropped, going by the first image of every split.

    Args:
        first: Name of a split -> its first row.
        num_channels: 1 or 3.

    Raises:
        ValueError: A first image is missing or corrupt, coloured where grey is expected, or has more than 8 bits per channel.
    """
    grey = transparent = False
    for name, row in first.items():
        where = f"the first {'training' if name == 'train' else name} image"
        image = open_image(row["image"], where)
        to_channels(image, num_channels, where)
        grey |= image.mode in GREY
        transparent |= image.has_transparency_data
    if num_channels == 3 and grey:
        say("the images are grey; they are repeated to 3 channels")
    if transparent:
        say("the images have an alpha channel; it is dropped")


def checksum(row: dict) -> int:
    """A number of the image's content, or of its folder and name where the content is not at hand."""
    cell = row["image"] or {"bytes": b"", "path": None}  # a missing image is refused, or left out, where it is decoded
    if cell["bytes"] is not None:
        return zlib.crc32(cell["bytes"])
    inside = cell["path"].split("::")[0]  # of an archive: zip://folder/name::archive
    return zlib.crc32("/".join(Path(inside).parts[-2:]).encode())


def only_readable(split: Dataset | IterableDataset, name: str, arguments: ImageArguments):
    """The split without images that are corrupt or cannot be converted; says how many there were and names the first.

    A stream names each when it first comes.
    """
    told = set()

    def problem(row: dict) -> str:
        where = (row["image"] or {}).get("path") or f"an image of {name}"
        try:
            to_channels(_decoded(row["image"], where), arguments.num_channels, where)
        except ValueError as error:
            return str(error)
        return ""

    def readable(row: dict) -> bool:
        if reason := problem(row):
            if (number := checksum(row)) not in told:  # it comes again in every epoch, and for every part of the split
                told.add(number)
                say(f"skipped: {reason}")
            return False
        return True

    if isinstance(split, IterableDataset):
        return split.filter(readable)
    problems = split.map(
        lambda row: {"problem": problem(row)},
        remove_columns=split.column_names,
        features=Features({"problem": Value("string")}),
        num_proc=arguments.preprocessing_workers,
        desc=f"reading {name} images",
    )["problem"][:]
    corrupt = [reason for reason in problems if reason]
    if not corrupt:
        return split
    more = ", ..." if len(corrupt) > NAMED else ""
    say(
        f"{len(corrupt)} of {len(split)} {name} images cannot be used and are left out: {', '.join(corrupt[:NAMED])}{more}"
    )
    return split.select([number for number, reason in enumerate(problems) if not reason])
