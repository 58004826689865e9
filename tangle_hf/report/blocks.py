"""What a page is made of. The template draws each kind; text is escaped there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..analysis import format_column


@dataclass(frozen=True)
class Picture:
    """A figure, and what there is to see.

    Args:
        figure: The figure, as plotly's JSON.
        title: Above it.
        caption: Below it.
    """

    kind: ClassVar[str] = "picture"
    figure: Mapping[str, Any]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Pictures beside each other where there is room, else below each other."""

    kind: ClassVar[str] = "grid"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Table:
    """Rows with the same keys; the first `marked` rows are emphasised."""

    kind: ClassVar[str] = "table"
    rows: Sequence[Mapping[str, str | int | float]]
    caption: str = ""
    marked: int = 0

    @property
    def numbers(self) -> set[str]:
        """The columns that have a number in some row; what stands in for one in the others is aligned with it."""
        return {name for row in self.rows for name, value in row.items() if isinstance(value, (int, float))}

    @property
    def cells(self) -> list[dict[str, str]]:
        """The rows as text."""
        columns = [format_column([row[name] for row in self.rows]) for name in self.rows[0]]
        return [dict(zip(self.rows[0], cells, strict=True)) for cells in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Command:
    """Something to copy, and what it does."""

    kind: ClassVar[str] = "command"
    text: str
    caption: str = ""


@dataclass(frozen=True)
class Fold:
    """Blocks that can be hidden, and are unless they are open."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence["Block"]
    open: bool = False


Block = Picture | Grid | Table | Words | Command | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Args:
        title: The heading.
        blocks: What is in it; a section without blocks is left out.
    """

    title: str
    blocks: Sequence[Block]

    @property
    def id(self) -> str:
        """Its name in links of the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
