"""What a page is made of: cells, tables, figures and sections, all plain data."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from equipoise.errors import InputError

__all__ = ["Cell", "Code", "Figure", "Note", "Number", "Section", "Table", "csv_text", "number_text"]

MINUS = "\N{MINUS SIGN}"
# What a cell without a number shows.
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Number:
    """A number as the CSV has it (``value``, exact) and as the page shows it (``text``, rounded)."""

    value: float | str
    text: str = ""

    @property
    def raw(self) -> str:
        """The text that the CSV holds."""
        return csv_text(self.value)

    @property
    def shown(self) -> str:
        """The text that the page shows: the given one, else the value to four digits."""
        return self.text or number_text(float(self.value))


@dataclass(frozen=True)
class Code:
    """A hash, a commit, a command: set in the typewriter face and never broken over lines."""

    text: str


@dataclass(frozen=True)
class Note:
    """A smaller remark inside a cell, such as the source of a published number."""

    text: str


Part = str | float | int | None | Number | Code | Note
Cell = Part | tuple[Part, ...]


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells, and a caption. Numbers align to the right.

    On a phone each row becomes a card when ``cards`` (by default: more than three columns and at most
    sixteen rows), else the table scrolls sideways inside its own frame, its first column staying put. A table of
    more rows than ``open_rows`` starts folded.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    cards: bool | None = None
    open_rows: int = 40

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"row {i} of the table '{self.caption}' has {len(row)} cells for {len(self.columns)} columns"
                )

    @property
    def as_cards(self) -> bool:
        """Whether rows become cards on a narrow screen."""
        return (len(self.columns) > 3 and len(self.rows) <= 16) if self.cards is None else self.cards

    def csv(self) -> str:
        """The table as CSV: exact numbers, the parts of a cell side by side with a space between them."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_cell_csv(cell) for cell in row] for row in self.rows)
        return file.getvalue()


@dataclass(frozen=True)
class Figure:
    """An ``<svg>`` element (``plots.svg``), a caption, and whether it takes the page's whole width."""

    svg: str
    caption: str = ""
    wide: bool = False

    def __post_init__(self) -> None:
        if not self.svg.lstrip().startswith("<svg"):
            raise InputError(f"a figure needs an <svg> element, from plots.svg; got {self.svg[:40]!r}")


@dataclass(frozen=True)
class Section:
    """One heading of the page: text, facts (a short list of name and value), figures, tables.

    ``text`` is plain: a blank line parts paragraphs, lines that begin with "- " make a list, `backticks` mark code.
    ``collapsed`` sections show their heading only until they are opened.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    facts: Mapping[str, Cell] = field(default_factory=dict)
    collapsed: bool = False


def csv_text(value: object) -> str:
    """The text that ``sweep.write_csv`` writes for a value: for a float the shortest that reads back the same.

    >>> csv_text(0.1), csv_text(3), csv_text(True), csv_text(None), csv_text("0.50")
    ('0.1', '3', 'true', '', '0.50')
    """
    if value is None or isinstance(value, str):
        return value or ""
    return repr(float(value)) if isinstance(value, float) else json.dumps(value)


def number_text(value: float, *, digits: int = 4) -> str:
    """A number to read: ``digits`` significant ones, a true minus, a thin space between thousands of integers.

    >>> number_text(0.123456), number_text(12), number_text(math.nan)
    ('0.1235', '12', 'NaN')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if float(value).is_integer() and abs(value) < 1e9:
        text = f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    else:
        text = f"{value:.{digits}g}"
        if "e" in text:
            mantissa, exponent = text.split("e")
            text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def _cell_csv(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(filter(None, map(_cell_csv, cell)))
    if isinstance(cell, Number):
        return cell.raw
    if isinstance(cell, Code | Note):
        return cell.text
    return csv_text(cell)
