"""A table as Markdown: for the README and the guides, whose figures no hand types."""

from __future__ import annotations

from equipoise.report.content import Cell, Code, Note, Number, Table, number_text

__all__ = ["markdown"]


def markdown(table: Table) -> str:
    """The table, without its caption; columns of numbers align to the right."""
    heads = [_escaped(head) for head in table.columns]
    rule = ["---:" if _numeric([row[i] for row in table.rows]) else "---" for i in range(len(heads))]
    body = [[_escaped(_text(cell)) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *body))


def _numeric(cells: list[Cell]) -> bool:
    first = [cell[0] if isinstance(cell, tuple) and cell else cell for cell in cells]
    filled = [one for one in first if one not in (None, "")]
    return bool(filled) and all(isinstance(one, (int, float, Number)) for one in filled)


def _text(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(filter(None, map(_text, cell)))
    if isinstance(cell, Number):
        return cell.shown
    if isinstance(cell, Code):
        return f"`{cell.text}`"
    if isinstance(cell, Note):
        return cell.text if cell.text[:1] in ("(", "[") else f"({cell.text})"
    return "" if cell is None else cell if isinstance(cell, str) else number_text(cell)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
