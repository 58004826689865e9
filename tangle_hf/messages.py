"""What a program says while it works: progress that a log file can take, messages of the main process, aligned lines."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import TypeVar

import tqdm.auto
import tqdm.std
from accelerate.logging import MultiProcessAdapter


Item = TypeVar("Item")
SECONDS = 30  # between lines of progress in a log file
BAR = "{desc} {percentage:3.0f}% |{bar:20}| {n_fmt} of {total_fmt}, {remaining} left{postfix}"
LINE = "{desc}: {n_fmt} of {total_fmt} ({percentage:.0f}%), {elapsed} so far, {remaining} left{postfix}"
LIBRARY = logging.getLogger(__package__)  # the logger of all modules; above WARNING nothing is shown but errors


def format_lines(lines: Mapping[str, str]) -> str:
    """A line for each entry, its name before it, all texts below each other."""
    width = max(map(len, lines))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines.items())


def draws_bars() -> bool:
    """Whether progress can be drawn over itself: on a terminal or in a notebook, not in a log file or a pipe."""
    return sys.stderr.isatty() or tqdm.auto.notebook_tqdm is not tqdm.std.tqdm


def progress_bar(total: int | None, name: str, done: int = 0, show: bool = True) -> tqdm.std.tqdm:
    """A bar, or where none can be drawn a line every 30 seconds and at the end; nothing where warnings are silent.

    Args:
        total: Steps in all; None where nobody knows.
        name: What is under way.
        done: Steps that were made before.
        show: Whether this process shows anything.
    """
    options = {"total": total, "initial": done, "desc": name, "disable": not show or LIBRARY.level > logging.WARNING}
    if draws_bars():
        return tqdm.auto.tqdm(**options, bar_format=BAR, dynamic_ncols=True)
    return Lines(**options, bar_format=LINE, mininterval=SECONDS, miniters=1, delay=1e-3)


@contextmanager
def silent() -> Iterator[None]:
    """Neither progress nor warnings of this library inside, as in trials that only measure."""
    level = LIBRARY.level
    LIBRARY.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LIBRARY.setLevel(level)


def with_progress(items: Iterable[Item], name: str, show: bool = True) -> Iterator[Item]:
    """The items, with the progress over them.

    Args:
        items: What is gone through.
        name: What is under way.
        show: Whether this process shows anything.
    """
    total = len(items) if hasattr(items, "__len__") else None
    with progress_bar(total, name, show=show) as bar:
        for item in items:
            yield item
            bar.update()


class Lines(tqdm.std.tqdm):
    """Progress in lines."""

    @staticmethod
    def status_printer(file):
        """What prints a line."""

        def show(text: str) -> None:
            file.write(f"{text}\n")
            file.flush()

        return show

    def moveto(self, n: int) -> None:
        """Does not move: lines stand below each other."""

    def close(self) -> None:
        """Prints the last line."""
        if not self.disable:
            self.display()
            self.delay = inf  # nothing was drawn that would have to be wiped out
        super().close()


class Logger(MultiProcessAdapter):
    """accelerate's logger, of which only the main process is heard, without the number of the process before each message."""

    def process(self, msg, kwargs):
        """The message as it is."""
        return msg, {"stacklevel": 2, **kwargs}


def get_logger(name: str) -> Logger:
    """The logger of a module that may run in several processes."""
    return Logger(logging.getLogger(name), {})
