"""Folders that appear under their name only when they are whole, and JSON that every reader takes."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import writing


def check_replaceable(folder: str | Path, *marks: str) -> None:
    """Refuses to replace a folder that is not an earlier one of the same kind.

    Args:
        folder: Where something is to be written.
        *marks: Files that every folder of this kind has.

    Raises:
        ValueError: The folder exists and lacks one of them.
    """
    folder = Path(folder)
    if folder.exists() and not all((folder / name).is_file() for name in marks):
        raise ValueError(
            f"{folder} exists and holds no earlier export with {' and '.join(marks)}; choose another folder"
        )


@contextmanager
def replacing(folder: str | Path, *marks: str) -> Iterator[Path]:
    """An empty folder to write into. When the block ends without an error, it gets the final name and replaces an earlier one.

    After an error nothing is left, and an earlier folder stays as it was.

    Args:
        folder: The final name.
        *marks: Files that every folder of this kind has.

    Raises:
        ValueError: The folder exists and lacks one of them.
        WriteError: The disk is full, or the folder cannot be written.
    """
    check_replaceable(folder, *marks)
    final = Path(folder).resolve()
    partial = final.with_name(f".partial-{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(final.parent):
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def to_json(value: Any, **layout) -> str:
    """JSON that every reader takes: NaN and Infinity, which Python would write although the standard lacks them, are refused.

    Args:
        value: Plain values.
        **layout: `indent` and `sort_keys` of `json.dumps`.

    Raises:
        FloatingPointError: A number is not finite; the message says which.
    """
    if (found := _not_finite(value)) is not None:
        path, number = found
        raise FloatingPointError(
            f"{path or 'the result'} is {number}: the weights have diverged, or those of the checkpoint are not finite; "
            "nothing was written of it. Try a smaller --learning_rate or --mixed_precision no"
        )
    return json.dumps(value, allow_nan=False, **layout)


def _not_finite(value: Any, path: str = "") -> tuple[str, float] | None:
    """Where the first number that is not finite stands, and the number."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, value)
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in inside:
        if (found := _not_finite(part, f"{path} {name}".strip())) is not None:
            return found
    return None
