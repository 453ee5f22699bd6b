"""The lines of a fair comparison: runs that differ in their seed alone, so that no mean mixes two budgets or rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from equipoise.papers.exhibits import Row
from equipoise.papers.fair.conditions import CIRCUITS, METHODS, NETWORKS, Cell, cell_of
from equipoise.papers.picking import FIELDS

__all__ = ["Line", "baseline_of", "lines_of"]

Spec = tuple[tuple[str, str], ...]
# What a line is, and what it was tuned to; all else is its budget.
_OWN = frozenset({"experiment", "model", "data", "rule", "options", "group_rates"})
_RATES = frozenset({"optimizer", "optimizer_options", "lr"})


@dataclass(frozen=True)
class Line:
    """A cell, and ``told``, in which settings these runs differ from those of other lines.

    ``budget``: what the lines of a fair comparison share, such as epochs, images and widths.
    """

    cell: Cell
    told: str = ""
    budget: Spec = ()

    @property
    def label(self) -> str:
        """The method's name, with what is told."""
        return ", ".join(filter(None, [METHODS[self.cell.name].label, self.told]))

    @property
    def circuit(self) -> str:
        """The circuit's name, with what is told."""
        return ", ".join(filter(None, [CIRCUITS[self.cell.place].label, self.told]))


def lines_of(rows: Sequence[Row]) -> dict[Line, list[Row]]:
    """Runs by their line, in the order of ``METHODS``, networks and circuits; a seed counts once.

    A budget that all lines share, and the rate of a cell that has one alone, are not told.
    """
    found: dict[Cell, dict[tuple[Spec, Spec], dict[int, Row]]] = {}
    for row in rows:
        cell = cell_of(row)
        if cell is not None:
            specs = (_budget(row, cell), _spec(row, _RATES))
            found.setdefault(cell, {}).setdefault(specs, {})[int(row["seed"])] = row
    places, names = [*NETWORKS, *CIRCUITS], list(METHODS)
    order = sorted(found, key=lambda one: (one.data, places.index(one.place), names.index(one.name)))
    budgets = [budget for variants in found.values() for budget, _ in variants]
    result: dict[Line, list[Row]] = {}
    for cell in order:
        for (budget, rate), members in found[cell].items():
            others = [other for same, other in found[cell] if same == budget]
            told = [f"{name}={value}" for name, value in (*_differing(budget, budgets), *_differing(rate, others))]
            result[Line(cell, ", ".join(told), budget)] = [members[seed] for seed in sorted(members)]
    return result


def baseline_of(line: Line, lines: Mapping[Line, Sequence[Row]]) -> Sequence[Row]:
    """The runs that ``line`` is compared with, at its budget; none where there are none, or more than one line."""
    data, place, name = line.cell.data, line.cell.place, line.cell.name
    wanted = Cell(data, "none", name) if line.cell.circuit else Cell(data, place, "shallow")
    found = [members for one, members in lines.items() if (one.cell, one.budget) == (wanted, line.budget)]
    return found[0] if len(found) == 1 else ()


def _spec(row: Row, wanted: Collection[str]) -> Spec:
    return tuple((key, str(value)) for key, value in sorted(row.items()) if key.partition(".")[0] in wanted)


def _budget(row: Row, cell: Cell) -> Spec:
    """What a run had, its line's own choices aside; the convolutional network has one width."""
    sizes = str(row["model"]).partition(",")[0].split("-")
    width = () if cell.place == "cnn" else (("width", sizes[1]),)
    return (*_spec(row, FIELDS - _OWN - _RATES), *width)


def _differing(spec: Spec, others: Sequence[Spec]) -> list[tuple[str, str]]:
    """The entries of ``spec`` that one of ``others`` has otherwise, or not at all; the width, where there is one."""
    own, tables = dict(spec), [dict(other) for other in others]
    told = []
    for name in dict.fromkeys(name for table in tables for name in table):
        if name == "width":
            tables = [table for table in tables if name in table]
        if len({table.get(name, "None") for table in tables}) > 1 and (name in own or name != "width"):
            told.append((name, own.get(name, "None")))
    return told
