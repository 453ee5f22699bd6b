"""CSV files that read back as they were written: numbers, text, true and false, nothing, lists."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.errors import StorageError
from equipoise.train import Run, Summary, storage

__all__ = ["read_csv", "write_csv"]


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write ``rows`` atomically, in an order that depends on their content alone.

    Columns: the spec's fields, the summary's, then the others, each group's unknown names alphabetical. Rows are
    sorted by their cells, numbers by value. Text that would read as something else is quoted as JSON.
    """
    columns = _columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in sorted(rows, key=lambda row: [_order(row.get(column)) for column in columns]):
        writer.writerow([_write(row.get(column)) for column in columns])
    path = Path(path)
    storage.make_folder(path.parent)
    storage.write_bytes(path, text.getvalue().encode())


def read_csv(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file by ``write_csv``; empty cells are None. Raises ``StorageError`` for a ragged file."""
    lines = list(csv.reader(io.StringIO(storage.read_text(Path(path)))))
    if not lines:
        return []
    header, *body = lines
    for number, cells in enumerate(body, start=2):
        if len(cells) != len(header):
            raise StorageError(
                f"row {number} of '{path}' has {len(cells)} cells for {len(header)} columns; it is damaged"
            )
    return [dict(zip(header, map(_read, cells), strict=True)) for cells in body]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [item.name for kind in (Run, Summary) for item in dataclasses.fields(kind)]
    rank = {name: place for place, name in enumerate(known)}
    present = {name for row in rows for name in row}
    return sorted(present, key=lambda name: (rank.get(name.split(".")[0], len(rank)), name))


def _order(value: Any) -> tuple[int, float, str]:
    """A sort key for cells of mixed types: nothing, then numbers, then text."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, (int, float)):
        return (1, float(value), "") if value == value else (1, float("inf"), "nan")
    return 2, 0.0, str(value)


def _write(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        plain = value.isprintable() and value != "" and _read(value) == value
        return value if plain else json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def _read(cell: str) -> Any:
    if cell == "":
        return None
    if cell in ("true", "false"):
        return cell == "true"
    if cell[0] in '"[{':
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
