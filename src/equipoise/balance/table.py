"""A scaling graph as a table that reads in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["readable"]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _described(graph: ScalingGraph) -> list[list[str]]:
    rows = [["layer", "units", "classes", "status", "weights", "why"]]
    parameters = dict(graph.model.named_parameters())
    for units in graph.units:
        weights = ", ".join(f"{name} {'x'.join(map(str, parameters[name].shape))}" for name in units.weights)
        counts = [str(len(units.nodes)), str(units.classes)]
        rows.append([units.name or "(the model)", *counts, units.status, weights, units.why])
    return rows


def readable(graph: ScalingGraph) -> str:
    """What is scaled, layer by layer, then what bounds, and what is left out and why."""
    name, scalable = type(graph.model).__name__, graph.scalable
    lines = [f"{name}: {scalable} free log-scales, {len(graph.uses)} parameters rescaled by them"]
    if graph.units:
        lines += ["", *_aligned(_described(graph))]
    if graph.boundaries:
        lines += ["", "boundaries (the signal there keeps its scale)"]
        lines += [
            f"  {line}" for line in _aligned([[b.name or "(the model)", b.kind, b.why] for b in graph.boundaries])
        ]
    if graph.excluded:
        lines += ["", "left as they are"]
        lines += [f"  {line}" for line in _aligned([[n, why] for n, why in graph.excluded.items()])]
    return "\n".join(lines)
