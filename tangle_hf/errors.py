"""Errors of the user, as one line at the end of a script."""

import errno
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType


MEANT_FOR_USERS = (ValueError, FloatingPointError, ConnectionError, ImportError)
# What a folder or a disk refuses, whoever asked; a file that is not there may be a mistake of this project.
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR,
           errno.ENAMETOOLONG, errno.ELOOP}  # fmt: skip


class MissingExtra(ImportError):
    """A package of an extra is not installed."""


def check_extra(extra: str, *packages: str) -> None:
    """Refuses to go on without the packages of an extra.

    Args:
        extra: Its name in `pyproject.toml`.
        *packages: What will be imported of it.

    Raises:
        MissingExtra: One of them is not installed.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            sys.excepthook = _one_line  # a script's own imports come before it can catch anything
            raise MissingExtra(
                f"{package} is not installed; install it with: pip install 'tangle_hf[{extra}]'"
            ) from None


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, MissingExtra):
        sys.stderr.write(f"error: {error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Ends the script with one line and exit code 1 where this library or the script itself raises an error meant for the user.

    One from elsewhere is an error that nobody has thought of, and keeps its traceback. One of a worker process of torch's
    data loaders counts as raised where the worker raised it. A file or folder that cannot be read or written is the user's,
    whoever met it.
    """
    script = getattr(sys.modules["__main__"], "__file__", None) or __file__
    own = (Path(__file__).resolve().parent, Path(script).resolve())
    try:
        yield
    except MEANT_FOR_USERS as error:
        file, message = _of_worker(error) or (traceback.extract_tb(error.__traceback__)[-1].filename, str(error))
        if not any(Path(file).resolve().is_relative_to(folder) for folder in own):
            raise
        sys.exit(f"error: {message}")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        where = error.filename2 or error.filename
        sys.exit(f"error: {f'{where}: ' if where else ''}{error.strerror}; choose another folder, or change that")


def _of_worker(error: Exception) -> tuple[str, str] | None:
    """The file and the message of an error that a data loader's worker raised; None of any other.

    Torch raises it again from a file of its own, with the worker's whole traceback for a message.
    """
    text = str(error)
    if not re.match(r"Caught \w+ in .*worker process", text):
        return None
    # Of a chain of tracebacks the last is the error's own.
    *_, (file, rest) = re.findall(r'^  File "(.+)", line \d+.*\n((?:(?!  File ").*\n?)*)', text, re.MULTILINE)
    _, _, message = rest.partition(f"{type(error).__name__}: ")
    return file, message.strip()
