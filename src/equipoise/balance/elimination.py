"""Classes of equal nodes, and sparse elimination of the equations between them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["components", "eliminate"]

_ROUNDING = 1e-12


def components(nodes: int, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """For each node, the smallest node that the pairs join it to: union-find on whole tensors at once."""
    parent = torch.arange(nodes)
    held = list(pairs)
    if not held:
        return parent
    a, b = (torch.cat(side) for side in zip(*held, strict=True))
    while True:
        low, high = torch.minimum(parent[a], parent[b]), torch.maximum(parent[a], parent[b])
        if torch.equal(low, high):
            return parent
        parent.scatter_reduce_(0, high, low, "amin")
        while not torch.equal(parent, parent[parent]):
            parent = parent[parent]


def eliminate(sums: Iterable[tuple[Tensor, tuple[float, ...]]], defined: Tensor) -> dict[int, dict[int, float]]:
    """Solve sum_k c_k v[rows[:, k]] = 0 for some nodes in terms of the others; v[0] = 0.

    ``defined`` (nodes,) marks what is eliminated first: sums of others. Returns, for each eliminated node, its row over
    nodes that are not.
    """
    pivots: dict[int, dict[int, float]] = {}
    prefer = defined.tolist()
    for rows, coefficients in sums:
        for nodes in rows.tolist():
            row: dict[int, float] = {}
            for node, c in zip(nodes, coefficients, strict=True):
                if node:
                    row[node] = row.get(node, 0.0) + c
            row = _reduced(row, pivots)
            if row:
                pivot = max(row, key=lambda node: (prefer[node], abs(row[node]), node))
                scale = -1 / row.pop(pivot)
                pivots[pivot] = {node: c * scale for node, c in row.items()}
    for node in reversed(list(pivots)):
        pivots[node] = _reduced(pivots[node], pivots)
    return pivots


def _reduced(row: dict[int, float], pivots: dict[int, dict[int, float]]) -> dict[int, float]:
    """``row`` with every eliminated node replaced by its own row, and what rounding left of cancelled terms dropped."""
    size = max(map(abs, row.values()), default=0.0)
    result = dict(row)
    while due := [node for node in result if node in pivots]:
        for node in due:
            c = result.pop(node)
            for other, d in pivots[node].items():
                result[other] = result.get(other, 0.0) + c * d
                size = max(size, abs(c * d))
    return {node: c for node, c in result.items() if abs(c) > _ROUNDING * size}
