"""The rates that were tried: every line's best, the losers' too, and whether it lies at the edge of what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.papers.exhibits import Cell as Shown
from equipoise.papers.exhibits import Exhibit, Histories, Number, Row, Table
from equipoise.papers.fair.conditions import CIRCUITS, METHODS, NETWORKS, RANGES, Cell, cell_of
from equipoise.papers.fair.studies import score
from equipoise.papers.inorm.pairing import with_diverged
from equipoise.papers.picking import fixed, per_preset

__all__ = ["edge_of", "optimiser_of", "rates"]

_SAID = {"sgd": "SGD, momentum 0.9", "adam": "Adam", "plain-sgd": "SGD"}
_CAPTION = (
    "Every line tried the same draws, one seed each, and its best by accuracy on held-out images went into the "
    "comparison; test images were not looked at. Ranges, drawn log-uniformly: "
    + "; ".join(f"{_SAID[name]} {low:g} to {high:g}" for name, (low, high) in RANGES.items())
    + ". Edge: the best is the lowest or the highest rate tried with its optimiser, so that a better one may lie "
    "outside. A run that diverged scores 0."
)


def optimiser_of(row: Row) -> str:
    """The name in ``RANGES`` of a run's optimiser."""
    if row.get("optimizer") != "sgd":
        return str(row.get("optimizer"))
    return "sgd" if row.get("optimizer_options.momentum") else "plain-sgd"


def edge_of(rate: float, tried: Sequence[float]) -> str:
    """Where ``rate`` lies among what was ``tried``: lowest, highest, inside; "" where fewer than three were."""
    rates = sorted(set(tried))
    if len(rates) < 3:
        return ""
    return {rates[0]: "lowest", rates[-1]: "highest"}.get(rate, "inside")


def _best(members: Sequence[Row]) -> Row:
    return max(members, key=lambda row: (score(row), -float(row["lr"])))


def _told(row: Row, members: Sequence[Row]) -> list[Shown]:
    same = [float(one["lr"]) for one in members if optimiser_of(one) == optimiser_of(row)]
    value = 100 * score(row)
    rate = float(row["lr"])
    return [_SAID[optimiser_of(row)], Number(rate, f"{rate:g}"), edge_of(rate, same), Number(value, fixed(value, 2))]


def _line(cell: Cell, members: Sequence[Row]) -> list[Shown]:
    place = CIRCUITS[cell.place].label if cell.circuit else cell.place
    best = _best(members)
    others = [row for row in members if optimiser_of(row) != optimiser_of(best)]
    second: list[Shown] = [None] * 4
    if others:
        second = _told(_best(others), others)
    lost = sum(row.get("status") == "failed" for row in members)
    return [cell.data, place, METHODS[cell.name].label, *_told(best, members), *second, f"{lost} of {len(members)}"]


@per_preset
def rates(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Each line's best rate with the optimiser that won, and with the other one."""
    groups: dict[Cell, list[Row]] = {}
    for row in with_diverged(rows, folder):
        cell = cell_of(row)
        if cell is not None:
            groups.setdefault(cell, []).append(row)
    if not groups:
        return []
    places, names = [*NETWORKS, *CIRCUITS], list(METHODS)
    order = sorted(groups, key=lambda one: (one.data, places.index(one.place), names.index(one.name)))
    heads = ["data", "network", "rule", "optimiser", "rate", "edge", "held-out, %"]
    heads += ["other optimiser", "its best rate", "its edge", "its held-out, %", "diverged"]
    return [Table("Best rates", heads, [_line(cell, groups[cell]) for cell in order], _CAPTION)]
