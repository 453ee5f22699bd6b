"""A problem as one list of edges with a sparse matrix of exponents: what minus signs, sums and single units need."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from equipoise.balance.colours import colour_matrix
from equipoise.balance.problem import Classes, Problem
from equipoise.balance.scalar import balance_of, best_step

__all__ = ["FlatSums", "flat_edges", "spread_matrix", "take_best_step"]


def flat_edges(problem: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every edge that is not zero, those from and to the visible class too: class entered, class left, m_e, power."""
    found = [(*e.flat(), e.power) for e in problem.edges]
    for p in problem.powers:
        for flow, entering in ((problem.inflow[p], True), (problem.outflow[p], False)):
            ids = (flow > 0).nonzero().squeeze(1)
            ends = (ids, torch.zeros_like(ids)) if entering else (torch.zeros_like(ids), ids)
            found.append((*ends, flow[ids], p))
    none = problem.classes.of_node[:0]
    real = none.to(torch.float64)
    return (
        torch.cat([none, *(into for into, _, _, _ in found)]),
        torch.cat([none, *(out_of for _, out_of, _, _ in found)]),
        torch.cat([real, *(value for _, _, value, _ in found)]),
        torch.cat([real, *(torch.full_like(value, p) for _, _, value, p in found)]),
    )


def spread_matrix(classes: Classes) -> Any:
    """E as a SciPy CSR matrix (C, free): the log-scale of each class over the free ones."""
    import numpy as np
    from scipy import sparse

    rows = np.concatenate([np.arange(1, 1 + classes.free), 1 + classes.free + classes.row.cpu().numpy()])
    cols = np.concatenate([np.arange(classes.free), classes.col.cpu().numpy()])
    values = np.concatenate([np.ones(classes.free), classes.coefficient.cpu().numpy()])
    if classes.pinned is not None:
        values = np.where(classes.pinned.cpu().numpy()[cols], 0.0, values)
    return sparse.csr_matrix((values, (rows, cols)), shape=(classes.count, classes.free))


class FlatSums:
    """Sums of any problem from a list of its edges: exponents q = power x coefficient, whatever they are.

    The exponent of edge e in log-scale k is a_ek, the entry of a sparse matrix by columns.
    """

    def __init__(self, problem: Problem, z: Tensor) -> None:
        import numpy as np

        self.problem, self.z = problem, z.cpu().clone()
        into, out_of, self.value, self.power = (t.cpu().numpy() for t in flat_edges(problem))
        spread = spread_matrix(problem.classes)
        self.matrix = (spread[into] - spread[out_of]).tocsc()
        self.matrix.eliminate_zeros()
        exponent = self.matrix.data * self.power[self.matrix.indices]
        self._distinct, self._slot = np.unique(exponent.round(12), return_inverse=True)
        self._exponent = exponent
        self.exponents = torch.from_numpy(self._distinct)
        self.shared = int(np.diff(self.matrix.tocsr().indptr).max(initial=1))
        self.refresh()

    def refresh(self) -> None:
        """Evaluate every edge's cost anew, so that rounding does not add up."""
        import numpy as np

        self.cost = self.value * np.exp(self.power * (self.matrix @ self.z.numpy()))

    def colours(self) -> list[Tensor]:
        """Sets of log-scales of which no two meet in one edge."""
        pattern = self.matrix.copy()
        pattern.data[:] = 1.0
        live = (~self.problem.skipped).cpu().numpy()
        found = [c[live[c]] for c in colour_matrix(pattern.T @ pattern)]
        return [torch.from_numpy(c) for c in found if len(c)]

    def _entries(self, ids: Tensor):
        """Places of the matrix's entries in the columns ``ids``, and which of these columns each is in."""
        import numpy as np

        start, end = (self.matrix.indptr[ids.numpy() + k] for k in (0, 1))
        count = end - start
        which = np.repeat(np.arange(len(count)), count)
        first = np.cumsum(count) - count
        return np.arange(count.sum()) - first[which] + start[which], which

    def of(self, ids: Tensor) -> Tensor:
        """S of the log-scales ``ids``: (n, K)."""
        import numpy as np

        places, which = self._entries(ids)
        width = len(self._distinct)
        slots = which * width + self._slot[places]
        sums = np.bincount(slots, self.cost[self.matrix.indices[places]], len(ids) * width)
        self.problem.spend(len(places))
        return torch.from_numpy(sums.reshape(len(ids), width))

    def move(self, ids: Tensor, step: Tensor) -> None:
        """Add ``step`` to the log-scales ``ids``."""
        import numpy as np

        self.z[ids] += step
        places, which = self._entries(ids)
        factor = np.exp(self._exponent[places] * step.numpy()[which])
        np.multiply.at(self.cost, self.matrix.indices[places], factor)

    def visit(self, ids: Tensor, strength: float) -> tuple[float, float]:
        """Take ``ids`` the fraction ``strength`` of the way to their best: their worst deficit, and the cost's fall."""
        if len(ids) > 1 or len(self._distinct) != 2:
            return take_best_step(self, ids, strength)
        return self._visit_one(int(ids), strength)

    def _visit_one(self, k: int, strength: float) -> tuple[float, float]:
        """The same for one unit with one exponent on either side, as quick as Python allows."""
        import numpy as np

        column = slice(self.matrix.indptr[k], self.matrix.indptr[k + 1])
        edges, slot = self.matrix.indices[column], self._slot[column]
        cost = self.cost[edges]
        down, up = np.bincount(slot, cost, 2).tolist()
        self.problem.spend(len(edges))
        shrink, grow = self._distinct.tolist()
        if not (up > 0 and down > 0):
            return float(up + down > 0), 0.0
        step = strength * math.log(-shrink * down / (grow * up)) / (grow - shrink)
        factors = np.array([math.exp(shrink * step), math.exp(grow * step)])
        self.cost[edges] = cost * factors[slot]
        self.z[k] += step
        a, b = grow * up, -shrink * down
        return abs(a - b) / (a + b), -(up * math.expm1(grow * step) + down * math.expm1(shrink * step))


def take_best_step(sums: Any, ids: Tensor, strength: float) -> tuple[float, float]:
    """Move the log-scales ``ids``, no two of which meet in an edge; their worst deficit before, and the cost's fall."""
    here = sums.of(ids)
    up, down = balance_of(here, sums.exponents)
    total = up + down
    worst = float(torch.where(total > 0, (up - down).abs() / total, 0.0).max())
    step = strength * best_step(here, sums.exponents)
    fall = -float((here * torch.expm1(sums.exponents * step[:, None])).sum())
    sums.move(ids, step)
    return worst, fall
