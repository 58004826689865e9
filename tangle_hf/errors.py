"""Errors of the user, as one line at the end of a script."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


MEANT_FOR_USERS = (ValueError, FloatingPointError, ConnectionError, ImportError)


@contextmanager
def readable_errors(*folders: str | Path) -> Iterator[None]:
    """Ends the script with one line and exit code 1 where a file of this project raises an error meant for the user.

    One from elsewhere is an error that nobody has thought of, and keeps its traceback.

    Args:
        *folders: Whose errors are meant for the user, besides those of the library.
    """
    own = (Path(__file__).resolve().parent, *(Path(folder).resolve() for folder in folders))
    try:
        yield
    except MEANT_FOR_USERS as error:
        origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if not any(origin.is_relative_to(folder) for folder in own):
            raise
        sys.exit(f"error: {error}")
