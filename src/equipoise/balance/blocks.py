"""The parts of a reduced problem: blocks of edge costs between classes, and how classes follow from log-scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Classes", "Edges", "span"]


def span(ids: Tensor) -> slice | Tensor:
    """Sorted distinct ``ids`` as a slice where they are consecutive: views in place of copies."""
    first, last = int(ids[0]), int(ids[-1])
    return slice(first, last + 1) if last - first + 1 == len(ids) else ids


class Edges:
    """The costs m_e >= 0 of one power between hidden classes: a matrix (D, S), or a list (E,) of single edges.

    ``into`` (D,) and ``out_of`` (S,) are sorted distinct classes; ``rows`` and ``cols`` (E,) of a list point into them.
    """

    def __init__(
        self,
        power: float,
        value: Tensor,
        into: Tensor,
        out_of: Tensor,
        rows: Tensor | None = None,
        cols: Tensor | None = None,
    ) -> None:
        self.power, self.value, self.into, self.out_of, self.rows, self.cols = power, value, into, out_of, rows, cols
        self.at_into, self.at_out_of = span(into), span(out_of)

    def push(self, signal: Tensor) -> Tensor:
        """M s: (S,) to (D,)."""
        if self.rows is None or self.cols is None:
            return self.value @ signal
        return signal.new_zeros(len(self.into)).index_add_(0, self.rows, self.value * signal[self.cols])

    def pull(self, signal: Tensor) -> Tensor:
        """M^T r: (D,) to (S,)."""
        if self.rows is None or self.cols is None:
            return signal @ self.value
        return signal.new_zeros(len(self.out_of)).index_add_(0, self.cols, self.value * signal[self.rows])

    def flat(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every edge that is not zero: class that it enters, class that it leaves, m_e; each (E,)."""
        if self.rows is None or self.cols is None:
            rows, cols = self.value.nonzero(as_tuple=True)
            return self.into[rows], self.out_of[cols], self.value[rows, cols]
        live = self.value > 0
        return self.into[self.rows[live]], self.out_of[self.cols[live]], self.value[live]

    def remove(self, gone: Tensor) -> float:
        """Set every edge at a class of the mask ``gone`` (C,) to zero; what they cost."""
        before = float(self.value.sum())
        if self.rows is None or self.cols is None:
            self.value[gone[self.into]] = 0
            self.value[:, gone[self.out_of]] = 0
        else:
            self.value[gone[self.into[self.rows]] | gone[self.out_of[self.cols]]] = 0
        return before - float(self.value.sum())


@dataclass(frozen=True)
class Classes:
    """How classes follow from free log-scales, u = (0, z, G z), and which class each node is of.

    of_node: (nodes,) class of every node. row, col, coefficient: the entries of G (general classes, free). pinned: mask
    of the log-scales that stay 0, None for none; a plain problem has none.
    """

    free: int
    general: int
    of_node: Tensor
    row: Tensor
    col: Tensor
    coefficient: Tensor
    pinned: Tensor | None = None

    @property
    def count(self) -> int:
        return 1 + self.free + self.general

    @property
    def plain(self) -> bool:
        """Whether every class is a free log-scale or the visible one."""
        return self.general == 0

    def spread(self, z: Tensor, *, size: bool = False) -> Tensor:
        """E z: (free,) to (C,); with ``size`` by the absolute entries of E."""
        z = self._masked(z)
        u = z.new_zeros(self.count)
        u[1 : 1 + self.free] = z
        if self.general:
            coefficient = self.coefficient.abs() if size else self.coefficient
            u[1 + self.free :].index_add_(0, self.row, coefficient * z[self.col])
        return u

    def gather(self, g: Tensor, *, power: int = 1) -> Tensor:
        """E^T g: (C,) to (free,); with ``power`` 2 by the squared entries of E."""
        if not self.general:
            return g[1:]
        out = g[1 : 1 + self.free].clone()
        return self._masked(out.index_add_(0, self.col, self.coefficient.pow(power) * g[1 + self.free :][self.row]))

    def _masked(self, z: Tensor) -> Tensor:
        return z if self.pinned is None else torch.where(self.pinned, 0.0, z)

    def split(self, inward: Tensor, outward: Tensor) -> tuple[Tensor, Tensor]:
        """IN and OUT of each free log-scale: a class with a negative coefficient counts the other way round."""
        if not self.general:
            return inward[1:], outward[1:]
        middle = slice(1, 1 + self.free)
        positive, negative = self.coefficient.clamp(min=0), self.coefficient.clamp(max=0).neg()
        general_in, general_out = inward[1 + self.free :][self.row], outward[1 + self.free :][self.row]
        into = inward[middle].clone().index_add_(0, self.col, positive * general_in + negative * general_out)
        out = outward[middle].clone().index_add_(0, self.col, positive * general_out + negative * general_in)
        return self._masked(into), self._masked(out)
