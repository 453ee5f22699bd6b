"""What an experiment shows beyond the parts that every experiment has: figures and tables as plain values.

A function ``exhibits(rows, histories, folder) -> list[Figure | Table]`` of an experiment makes them from what has
finished: ``rows`` as ``sweep.collect`` gives them, ``histories`` the epochs of each run by its hash, ``folder`` that of
all runs. What the finished runs do not allow is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Cell", "Exhibit", "Exhibits", "Figure", "Histories", "Note", "Number", "Row", "Table"]

Row = Mapping[str, Any]
Histories = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Number:
    """A number as it was measured, and as the page shows it (to four digits where ``text`` is empty)."""

    value: float
    text: str = ""


@dataclass(frozen=True)
class Note:
    """A smaller remark inside a cell."""

    text: str


Part = str | float | int | None | Number | Note
Cell = Part | tuple[Part, ...]


@dataclass(frozen=True)
class Figure:
    """A drawn figure: ``name`` for its file, ``title`` for its caption, and whether it takes the page's whole width.

    An experiment that brings figures is shown with these, in place of those that any experiment has.
    """

    name: str
    title: str
    figure: Canvas
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its columns, its rows of cells (a tuple's parts stand side by side) and a caption."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise InputError(f"the table '{self.title}' has {len(self.columns)} columns and a row of {wrong[0]} cells")


Exhibit = Figure | Table
Exhibits = Callable[[Sequence[Row], Histories, Path], list[Exhibit]]
