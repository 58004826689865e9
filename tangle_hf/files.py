"""Folders that appear under their name only when they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """An empty folder to write into, which gets its name, in place of an earlier one, where the block ends well.

    After an error nothing is left, and an earlier folder stays as it was.

    Args:
        folder: The final name.
        *marks: As in `check_replaceable`.

    Raises:
        ValueError: As `check_replaceable`.
    """
    check_replaceable(folder, *marks)
    final = Path(folder).resolve()
    partial = final.with_name(f".partial-{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
