"""The convex problem: the cost of a network as a function of the free log-scales of its units.

Scale classes have log-scales u, with u_0 = 0 for all that is visible, and u = E z for the free log-scales z (a plain
network has one class per unit, and E = identity). An edge e from class j to class i, of power p, costs

    m_e(u) = m_e exp(p (u_i - u_j)),     F(z) = sum_e m_e(E z).

    IN_k = sum over edges into k of (p / q) m_e, OUT_k likewise (q the largest power: for one power they are costs)
    gradient  = q E^T (IN - OUT)
    Hessian   = E^T L E,  L_kk = sum over edges at k of p^2 m_e,  L_kl = - sum over edges between k and l of p^2 m_e,

a graph Laplacian with the visible class as ground. Everything is float64. A *weight pass* is one use of every reduced
block, M v and M^T v together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from equipoise.balance.blocks import Classes as Classes
from equipoise.balance.blocks import Edges as Edges
from equipoise.balance.ledger import Rows as Rows
from equipoise.balance.ledger import Use as Use

__all__ = ["Classes", "Edges", "Marginals", "Problem", "Rows", "Use"]

LARGEST_EXPONENT = 600.0  # exp(+-600) and a product of it with a weight's cost stay inside float64


@dataclass
class Marginals:
    """Everything that one weight pass tells at one point: the cost, IN, OUT, gradient and curvature.

    cost: F less the constant, in the problem's unit. inward, outward: IN and OUT of each free log-scale (free,).
    relative: |IN - OUT| / (IN + OUT), 0 where both are 0. gradient, diagonal: (free,); bend: the Laplacian's diagonal
    (C,). By power: grow, shrink: exp(+-p u); enter, leave: costs into and out of each class (C,). parts: M s and
    M^T r by block. finite: False where float64 does not hold the point.
    """

    cost: float
    gradient: Tensor
    inward: Tensor
    outward: Tensor
    diagonal: Tensor
    bend: Tensor
    grow: dict[float, Tensor] = field(repr=False, default_factory=dict)
    shrink: dict[float, Tensor] = field(repr=False, default_factory=dict)
    enter: dict[float, Tensor] = field(repr=False, default_factory=dict)
    leave: dict[float, Tensor] = field(repr=False, default_factory=dict)
    parts: list[tuple[Tensor, Tensor]] = field(repr=False, default_factory=list)
    finite: bool = True

    @functools.cached_property
    def relative(self) -> Tensor:
        total = self.inward + self.outward
        return torch.where(total > 0, (self.inward - self.outward).abs() / total, 0.0)

    @functools.cached_property
    def deficit(self) -> float:
        """The largest relative deficit of a unit, in [0, 1]."""
        return float(self.relative.max()) if len(self.inward) else 0.0


class Problem:
    """The reduced problem. ``inflow``, ``outflow``: for each power, (C,) costs of edges from and to the visible class.

    Costs are in units of ``unit``; ``constant`` is the cost (same unit) of the edges that no log-scale changes.
    """

    def __init__(
        self,
        classes: Classes,
        edges: Sequence[Edges],
        inflow: dict[float, Tensor],
        outflow: dict[float, Tensor],
        *,
        constant: float = 0.0,
        unit: float = 1.0,
    ) -> None:
        self.classes, self.edges, self.inflow, self.outflow = classes, list(edges), inflow, outflow
        self.constant, self.unit = constant, unit
        self.powers = sorted(inflow)
        self.largest = max(self.powers, default=1.0)
        flows = [f for flow in (inflow, outflow) for f in flow.values()]
        self.size = max(1, sum(2 * e.value.numel() for e in self.edges) + sum(int((f > 0).sum()) for f in flows))
        self.skipped = torch.zeros(classes.free, dtype=torch.bool, device=classes.of_node.device)
        self.gone = torch.zeros(classes.count, dtype=torch.bool, device=classes.of_node.device)
        self.weight_passes = 0.0

    def zero(self) -> Tensor:
        """The point where nothing is scaled, (free,)."""
        return torch.zeros(self.classes.free, dtype=torch.float64, device=self.classes.of_node.device)

    def spend(self, elements: float) -> None:
        """Count so many uses of an element; a pass uses those of a block twice (M v, M^T v), a visible edge's once."""
        self.weight_passes += elements / self.size

    def total(self, marginals: Marginals) -> float:
        """The network's cost, in the user's unit."""
        return self.unit * (marginals.cost + self.constant)

    def pin(self, still: Tensor) -> None:
        """Keep the log-scales of the mask ``still`` (free,) at 0; their edges cost what the others make of them."""
        self.classes = replace(
            self.classes, pinned=still if self.classes.pinned is None else still | self.classes.pinned
        )
        self.skipped |= still

    def remove(self, dead: Tensor) -> None:
        """Take the log-scales of the mask ``dead`` (free,) out; edges at their classes then cost a constant."""
        gone = self.classes.spread(dead.to(torch.float64), size=True) > 0
        for edges in self.edges:
            self.constant += edges.remove(gone)
        for flow in (*self.inflow.values(), *self.outflow.values()):
            self.constant += float(flow[gone].sum())
            flow[gone] = 0.0
        self.skipped |= dead
        self.gone |= gone

    def marginals(self, z: Tensor) -> Marginals:
        """Cost, IN and OUT at ``z`` (free,), in one weight pass."""
        u = self.classes.spread(z)
        reach = float(u.abs().max()) * self.largest if len(u) else 0.0
        if not reach <= LARGEST_EXPONENT:
            empty = self.zero()
            return Marginals(math.inf, empty, empty, empty, empty, u, finite=False)
        grow = {p: torch.exp(p * u) for p in self.powers}
        shrink = {p: 1.0 / grow[p] for p in self.powers}
        enter = {p: self.inflow[p].clone() for p in self.powers}
        leave = {p: self.outflow[p].clone() for p in self.powers}
        parts = []
        for e in self.edges:
            pushed, pulled = e.push(shrink[e.power][e.at_out_of]), e.pull(grow[e.power][e.at_into])
            enter[e.power][e.at_into] += pushed
            leave[e.power][e.at_out_of] += pulled
            parts.append((pushed, pulled))
        cost = 0.0
        for p in self.powers:
            cost += float(enter[p].mul_(grow[p]).sum() + shrink[p] @ self.outflow[p])
            leave[p].mul_(shrink[p])
        inward, outward, bend = self._weighted(enter), self._weighted(leave), self._weighted(enter, leave)
        self.spend(self.size)
        split_in, split_out = self.classes.split(inward, outward)
        return Marginals(
            cost=cost,
            gradient=self.classes.gather(self.largest * (inward - outward)),
            inward=split_in,
            outward=split_out,
            diagonal=self.classes.gather(bend, power=2),
            bend=bend,
            grow=grow,
            shrink=shrink,
            enter=enter,
            leave=leave,
            parts=parts,
            finite=math.isfinite(cost),
        )

    def _weighted(self, *flows: dict[float, Tensor]) -> Tensor:
        """sum over powers of (p / q) flow for one, of p^2 (flow + flow) for two; (C,)."""
        total = None
        for p in self.powers:
            term = flows[0][p] * (p / self.largest) if len(flows) == 1 else (flows[0][p] + flows[1][p]) * (p * p)
            total = term if total is None else total + term
        return self.gone.new_zeros(len(self.gone), dtype=torch.float64) if total is None else total

    def hessian_product(self, at: Marginals, x: Tensor) -> Tensor:
        """H x at the point of ``at``: (free,) to (free,), in one weight pass."""
        u = self.classes.spread(x)
        y = at.bend * u
        for p in self.powers:
            rising, falling = at.grow[p] * u, at.shrink[p] * u
            up, down = torch.zeros_like(u), torch.zeros_like(u)
            for e in self.edges:
                if e.power == p:
                    up[e.at_into] += e.push(falling[e.at_out_of])
                    down[e.at_out_of] += e.pull(rising[e.at_into])
            y -= (at.grow[p] * up + at.shrink[p] * down) * (p * p)
        self.spend(self.size)
        return self.classes.gather(y)

    def hessian(self, at: Marginals) -> Tensor:
        """The whole Hessian (free, free), for small problems, in one weight pass."""
        matrix = torch.diag(at.bend)
        for e in self.edges:
            into, out_of, value = e.flat()
            bend = e.power**2 * value * at.grow[e.power][into] * at.shrink[e.power][out_of]
            matrix.index_put_((into, out_of), -bend, accumulate=True)
            matrix.index_put_((out_of, into), -bend, accumulate=True)
        self.spend(self.size)
        if self.classes.plain:
            return matrix[1:, 1:].clone()
        half = torch.stack([self.classes.gather(row) for row in matrix])
        return torch.stack([self.classes.gather(row) for row in half.T])
