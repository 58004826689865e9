"""Errors of the user and of full or protected disks, as one line at the end of a script, and warnings as lines before."""

import errno
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType

from tqdm import tqdm


class WriteError(OSError):
    """A folder is on a full disk, or cannot be written; the message names it."""


STOPPED = 130  # exit code of a program that Ctrl-C has ended
MEANT_FOR_USERS = (ValueError, FloatingPointError, ConnectionError, ImportError, WriteError)
FULL, PROTECTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), (errno.EROFS, errno.EACCES, errno.EPERM)
# Of libraries whose errors of a full disk are no OSError: safetensors and tokenizers, torch, datasets.
FULL_IN_WORDS = r"os error (28|122|27)\b|PytorchStreamWriter failed|unexpected pos \d+ vs|Not enough disk space"
PROTECTED_IN_WORDS = r"os error (30|13|1)\b"
# Other errors of paths that are the user's, whoever asked. A missing file is none: it may be a mistake of this project.
REFUSED = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


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


class OneLine(logging.Handler):
    """Prints "warning: ..." on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message."""
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        if sys.stderr.isatty():
            tqdm.write(line, file=sys.stderr)
        else:
            sys.stderr.write(f"{line}\n")


def _show_warnings() -> None:
    """Shows the library's warnings as scripts and commands do; a program that imports it may do as it likes."""
    logger = logging.getLogger("tangle_hf")
    if not any(isinstance(handler, OneLine) for handler in logger.handlers):
        logger.addHandler(OneLine(logging.WARNING))


@contextmanager
def readable_errors() -> Iterator[None]:
    """Ends the script with one line and exit code 1 where this library or the script itself raises an error meant for the user.

    Warnings of this library are lines, too, and Ctrl-C ends the script with exit code 130, as a shell has it.
    An error raised anywhere else is unexpected and keeps its traceback. An error of a worker process of torch's data loaders
    counts as raised where the worker raised it. Full and protected disks are one line, whichever library met them.
    """
    script = getattr(sys.modules["__main__"], "__file__", None) or __file__
    own = (Path(__file__).resolve().parent, Path(script).resolve())
    _show_warnings()
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(STOPPED)
    except Exception as error:
        message = _meant_for_users(error, own) or disk_message(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Inside, a full or protected disk raises an error that names this folder, whichever library met it.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except (WriteError, ValueError, FloatingPointError):
        raise
    except Exception as error:
        if (message := disk_message(error, folder)) is None:
            raise
        raise WriteError(message) from error


def disk_message(error: BaseException, folder: str | Path | None = None) -> str | None:
    """One line on a full or protected disk; None of any other error.

    Args:
        error: The error; the errors that it was raised from are looked at, too.
        folder: What was being written, where the error does not name a file.
    """
    link: BaseException | None = error
    while link is not None:
        number, text = getattr(link, "errno", None), str(link)
        # Of other types only the words tell: an OSError has its number, and a path may hold any words.
        words = number is None and not isinstance(link, ValueError)
        named = getattr(link, "filename", None)
        where = _folder_of(named) if isinstance(named, (str, bytes, os.PathLike)) else folder
        if (isinstance(link, OSError) and number in FULL) or (words and re.search(FULL_IN_WORDS, text)):
            return (
                f"no space is left on the disk of {where or _full_folders()}; what was half-written is not used. Make room and "
                "give the same command again, to a run that was stopped with --resume"
            )
        if (isinstance(link, OSError) and number in PROTECTED) or (words and re.search(PROTECTED_IN_WORDS, text)):
            reason = os.strerror(number) if number else "it is protected"
            return f"{where or 'a folder'} cannot be used ({reason}); choose another folder, or change its rights"
        if isinstance(link, OSError) and number in REFUSED:
            return f"{link.filename2 or named or where}: {link.strerror}; choose another folder"
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return None


def _folder_of(path: str | bytes | os.PathLike) -> Path:
    named = Path(os.fsdecode(path))
    return named if named.is_dir() else named.parent


def _full_folders() -> str:
    """Those folders whose disks are full, among the ones that libraries write to unasked."""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    caches = [
        Path(os.environ.get("HF_DATASETS_CACHE", cache / "datasets")),
        Path(os.environ.get("HF_HUB_CACHE", cache / "hub")),
    ]
    known = [path for path in (*caches, Path(tempfile.gettempdir()), Path.cwd()) if path.is_dir()]
    full = [str(path) for path in known if shutil.disk_usage(path).free < 2**26]
    return " or ".join(full) or "a folder that is written to (the caches HF_HOME and HF_DATASETS_CACHE, or the run's)"


def _meant_for_users(error: Exception, own: tuple[Path, ...]) -> str | None:
    """The message of an error that a file of these folders raised for the user; None of any other."""
    if not isinstance(error, MEANT_FOR_USERS):
        return None
    file, message = _of_worker(error) or (traceback.extract_tb(error.__traceback__)[-1].filename, str(error))
    return message if any(Path(file).resolve().is_relative_to(folder) for folder in own) else None


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
