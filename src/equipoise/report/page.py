"""One self-contained HTML page: no script, nothing from the network, readable on a phone, in the dark, on paper."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from equipoise.errors import InputError
from equipoise.plots import theme_css
from equipoise.report.content import NOTHING, Cell, Code, Figure, Note, Number, Section, Table

__all__ = ["page", "write"]

EMPTY = (None, "", (), NOTHING, (NOTHING,))
SVG_ID = re.compile(r'<svg[^>]* id="(eq-[0-9a-f]+)"')


class _Counter:
    """Numbers tables and figures through the page, and keeps the ids of its figures apart."""

    def __init__(self) -> None:
        self.tables = 0
        self.figures = 0
        self.seen: dict[str, int] = {}

    def own(self, svg: str) -> str:
        """The svg, its ids changed if the page has that very figure already."""
        match = SVG_ID.search(svg)
        if match is None:
            return svg
        name = match[1]
        self.seen[name] = count = self.seen.get(name, 0) + 1
        return svg if count == 1 else svg.replace(name, f"{name}-{count}")


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", footer: str = "") -> str:
    """The page as one string of HTML.

    Everything is escaped; every number carries the exact text of the CSV in its ``data-value`` attribute.
    """
    if not sections:
        raise InputError("a page needs at least one section")
    names = _anchors([section.title for section in sections])
    counter = _Counter()
    links = "".join(
        f'<li><a href="#{name}">{html.escape(section.title)}</a></li>'
        for name, section in zip(names, sections, strict=True)
    )
    body = "\n".join(_section(section, name, counter) for name, section in zip(names, sections, strict=True))
    css = theme_css() + resources.files("equipoise.report").joinpath("page.css").read_text(encoding="utf-8")
    under = f'<p class="subtitle">{_inline(subtitle)}</p>' if subtitle else ""
    end = f"<footer>{_prose(footer)}</footer>" if footer else ""
    contents = f'<nav aria-label="Contents"><p>Contents</p><ol>{links}</ol></nav>' if len(sections) > 1 else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1>{under}</header>
{contents}
<main>
{body}
</main>
{end}
</body>
</html>
"""


def write(path: str | Path, text: str) -> Path:
    """Write a page, whole or not at all, making its folder; a ``StorageError`` says why it could not."""
    from equipoise.train.storage import make_folder, write_bytes

    target = Path(path)
    make_folder(target.parent)
    write_bytes(target, text.encode())
    return target


def _section(section: Section, name: str, counter: _Counter) -> str:
    figures = "".join(_figure(figure, counter) for figure in section.figures)
    parts = [
        _prose(section.text),
        _facts(section),
        f'<div class="figures">{figures}</div>' if figures else "",
        *(_table(table, counter) for table in section.tables),
    ]
    opened = "" if section.collapsed else " open"
    return (
        f'<section id="{name}"><details{opened}><summary><h2>{html.escape(section.title)}</h2></summary>\n'
        + "\n".join(part for part in parts if part)
        + "\n</details></section>"
    )


def _facts(section: Section) -> str:
    if not section.facts:
        return ""
    items = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{_cell(value)}</dd></div>" for name, value in section.facts.items()
    )
    return f'<dl class="facts">{items}</dl>'


def _figure(figure: Figure, counter: _Counter) -> str:
    counter.figures += 1
    caption = f"<b>Figure {counter.figures}.</b> {_inline(figure.caption)}".rstrip()
    wide = ' class="wide"' if figure.wide else ""
    return f"<figure{wide}>{counter.own(figure.svg)}<figcaption>{caption}</figcaption></figure>"


def _table(table: Table, counter: _Counter) -> str:
    counter.tables += 1
    label = f"Table {counter.tables}"
    right = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_class(numeric)}>{html.escape(column)}</th>'
        for column, numeric in zip(table.columns, right, strict=True)
    )
    body = "\n".join(_row(table, row, right) for row in table.rows)
    kind = ("cards" if table.as_cards else "scroll") + (" slim" if len(table.columns) <= 4 else "")
    caption = f'<p class="caption" id="table-{counter.tables}"><b>{label}.</b> {_inline(table.caption)}</p>'
    frame = (
        f'<div class="frame" role="region" tabindex="0" aria-labelledby="table-{counter.tables}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )
    if len(table.rows) > table.open_rows:
        frame = f'<details class="long"><summary>Show {len(table.rows)} rows</summary>{frame}</details>'
    return f'<div class="table">{caption}{frame}</div>'


def _row(table: Table, row: Sequence[Cell], right: Sequence[bool]) -> str:
    cells = []
    for i, (column, cell, numeric) in enumerate(zip(table.columns, row, right, strict=True)):
        label = f' data-label="{html.escape(column)}"'
        if i == 0:
            cells.append(f'<th scope="row"{_class(numeric)}{label}>{_cell(cell)}</th>')
        else:
            empty = cell in EMPTY
            cells.append(f"<td{_class(numeric, empty=empty)}{label}><div>{_cell(cell)}</div></td>")
    return f"<tr>{''.join(cells)}</tr>"


def _class(numeric: bool, *, empty: bool = False) -> str:
    names = [name for name, on in (("n", numeric), ("empty", empty)) if on]
    return f' class="{" ".join(names)}"' if names else ""


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Whether a column holds numbers, which are then set flush right."""
    firsts = [cell[0] if isinstance(cell, tuple) and cell else cell for cell in cells]
    told = [first for first in firsts if first not in EMPTY]
    return bool(told) and all(isinstance(first, Number | int | float) and not isinstance(first, bool) for first in told)


def _cell(cell: Cell) -> str:
    """A cell's HTML; the parts of a tuple stand side by side with a space between them."""
    if isinstance(cell, tuple):
        return " ".join(filter(None, map(_cell, cell)))
    if isinstance(cell, Number):
        return f'<span data-value="{html.escape(cell.raw)}">{html.escape(cell.shown)}</span>'
    if isinstance(cell, Code):
        return f"<code>{html.escape(cell.text)}</code>"
    if isinstance(cell, Note):
        return f"<small>{html.escape(cell.text)}</small>"
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return _cell(Number(cell))
    return "" if cell is None else html.escape(str(cell))


def _prose(text: str) -> str:
    """Paragraphs and lists of plain text."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines and all(line.startswith("- ") for line in lines):
            blocks.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        elif lines:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "\n".join(blocks)


def _inline(text: str) -> str:
    """Escaped text in which `backticks` mark code; a number and its per cent sign stay on one line."""
    text = re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", html.escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _anchors(titles: Sequence[str]) -> list[str]:
    """An id for each title, made of its words; a number keeps equal ones apart."""
    names: list[str] = []
    for title in titles:
        base = "s-" + (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section")
        name, count = base, 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.append(name)
    return names
