"""Stochastic balancing of one network in many random orders at once: log-scales alone, never a copy of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.balance.costs import Lp
from equipoise.balance.flat import flat_edges
from equipoise.balance.methods import Options, methods
from equipoise.balance.problem import Edges
from equipoise.balance.solve import prepare
from equipoise.errors import InputError

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["Orders"]

TOLERANCE = 1e-13


class Orders:
    """``repeats`` runs of stochastic balancing side by side, each with an order of its own, from the same weights.

    A visit balances one unit: with m_e = |w_e|^p and u the log-scales so far, of unit k

        exp(p u_k) = sqrt(sum_{e out of k, into i} m_e exp(p u_i) / sum_{e into k, out of j} m_e exp(-p u_j)),

    which is lambda* = (OUT / IN)^(1 / 2p) of Theorem 5.1. All repeats visit a unit each in one go: ``visit`` takes the
    units (repeats,). ``order`` draws a fresh random order of all units for every repeat.

    Args:
        graph: of a network whose units have a log-scale each (no ties by sums, no powers)
        p: the cost |w|^p
        repeats: how many runs

    Raises ``InputError`` where a log-scale is a sum of others, or nothing can be scaled.
    """

    def __init__(self, graph: ScalingGraph, *, p: float = 2.0, repeats: int = 1) -> None:
        if repeats < 1:
            raise InputError(f"repeats is {repeats}; give at least 1")
        self.graph, self.p, self.repeats = graph, float(p), repeats
        self._ready, self._squares = (prepare(graph, Lp(power)) for power in (self.p, 2.0))
        problem = self._ready.problem
        if not problem.classes.plain:
            raise InputError("many orders at once need units with a log-scale each; here some are sums of others")
        self.units = 1 + (~problem.skipped).nonzero().squeeze(1)
        if not len(self.units):
            raise InputError("no unit of the network can be scaled; see balance.graph(model)")
        start = problem.zero()
        found = methods["newton"](problem, start, problem.marginals(start), Options(tol=TOLERANCE))
        self.target = problem.classes.spread(found.z)
        into, out_of, cost, _ = flat_edges(problem)
        count = problem.classes.count
        self._incoming = _Tables(into, out_of, cost, count, self.units)
        self._outgoing = _Tables(out_of, into, cost, count, self.units)
        self.grow = torch.ones(repeats, count, dtype=torch.float64)
        self.shrink = torch.ones(repeats, count, dtype=torch.float64)

    @property
    def log_scales(self) -> Tensor:
        """u, (repeats, classes); the first column is what is visible, 0."""
        return self.grow.log() / self.p

    @log_scales.setter
    def log_scales(self, u: Tensor) -> None:
        self.grow = torch.exp(self.p * u)
        self.shrink = 1 / self.grow

    def order(self, generator: torch.Generator) -> Tensor:
        """A random order of all units for each repeat, (repeats, units), as classes."""
        draw = torch.rand(self.repeats, len(self.units), generator=generator)
        return self.units[draw.argsort(1)]

    def visit(self, units: Tensor) -> None:
        """Balance one unit in each repeat: ``units`` (repeats,) as classes."""
        outgoing = self._outgoing.sums(units, self.grow)
        incoming = self._incoming.sums(units, self.shrink)
        scale = (outgoing / incoming).sqrt_()
        rows = torch.arange(self.repeats)
        self.grow[rows, units] = scale
        self.shrink[rows, units] = 1 / scale

    def distance(self) -> Tensor:
        """The Euclidean distance of each repeat's weights to the balanced ones, (repeats,).

        |W - W*|^2 = sum_e w*_e^2 (exp(a_i - a_j) - 1)^2 with a = u - u*. With f = exp(a) - 1, g = exp(-a) - 1 the
        bracket is f_i + g_j + f_i g_j: products of the matrix of squares with (repeats, units), and nothing cancels
        near the balanced state.
        """
        a = self.log_scales - self.target
        f, g = torch.expm1(a), torch.expm1(-a)
        total = torch.zeros(self.repeats, dtype=torch.float64)
        problem = self._squares.problem
        at = torch.exp(2 * self.target)
        total += (f.square() * (problem.inflow[2.0] * at)).sum(1) + (g.square() * (problem.outflow[2.0] / at)).sum(1)
        for edges in problem.edges:
            into, out_of = at[edges.into], 1 / at[edges.out_of]
            fi, gj = f[:, edges.into], g[:, edges.out_of]
            for left, right, times in (
                (fi.square(), torch.ones_like(gj), 1),
                (torch.ones_like(fi), gj.square(), 1),
                (fi.square(), gj.square(), 1),
                (fi, gj, 2),
                (fi.square(), gj, 2),
                (fi, gj.square(), 2),
            ):
                total += times * _between(edges, left * into, right * out_of)
        return (total.clamp_min(0) * problem.unit).sqrt()

    def norm(self) -> Tensor:
        """The Euclidean norm of each repeat's weights, (repeats,)."""
        return self._norm(self.log_scales)

    @property
    def balanced_norm(self) -> float:
        """That of the balanced weights."""
        return float(self._norm(self.target[None]))

    def weights(self, repeat: int = 0) -> dict[str, Tensor]:
        """The parameters that one repeat has arrived at, as new tensors by name."""
        classes, skipped = self._ready.problem.classes, self._ready.problem.skipped
        v, left = self.log_scales[repeat][classes.of_node], classes.spread(skipped.double())[classes.of_node] != 0
        found = {}
        for use in self.graph.uses:
            weight = self._ready.weights[use.name].detach()
            found[use.name] = weight * use.exponent(v, left).exp().to(weight)
        return found

    def _norm(self, u: Tensor) -> Tensor:
        problem = self._squares.problem
        up, down = torch.exp(2 * u), torch.exp(-2 * u)
        total = up @ problem.inflow[2.0] + down @ problem.outflow[2.0] + problem.constant
        for edges in problem.edges:
            total += _between(edges, up[:, edges.into], down[:, edges.out_of])
        return (total * problem.unit).sqrt()


class _Tables:
    """Who the neighbours of each unit are, and what the edges cost, in tables of units with about as many of them."""

    def __init__(self, unit: Tensor, neighbour: Tensor, cost: Tensor, count: int, units: Tensor) -> None:
        order = unit.argsort(stable=True)
        neighbour, cost = neighbour[order], cost[order]
        width = torch.bincount(unit, minlength=count)
        start = width.cumsum(0) - width
        self.group = torch.zeros(count, dtype=torch.int64)
        self.place = torch.zeros(count, dtype=torch.int64)
        self.tables: list[tuple[Tensor, Tensor]] = []
        for members in _buckets(units, width[units]):
            across = torch.arange(int(width[members].max()))
            inside = across < width[members, None]
            at = torch.where(inside, start[members, None] + across, 0)
            self.group[members] = len(self.tables)
            self.place[members] = torch.arange(len(members))
            self.tables.append((neighbour[at], torch.where(inside, cost[at], 0.0)))

    def sums(self, units: Tensor, factor: Tensor) -> Tensor:
        """sum over the neighbours n of each unit of m_e factor_n, (repeats,): ``factor`` (repeats, classes)."""
        found = factor.new_empty(len(units))
        group, place = self.group[units], self.place[units]
        for number, (neighbour, cost) in enumerate(self.tables):
            rows = (group == number).nonzero().squeeze(1)
            if len(rows):
                at = place[rows]
                picked = factor[rows[:, None], neighbour[at]]
                found[rows] = torch.linalg.vecdot(picked, cost[at])
        return found


def _buckets(units: Tensor, width: Tensor) -> list[Tensor]:
    """The units in sets that differ in their number of neighbours by less than half, in at most a few sets."""
    order = width.argsort()
    units, width = units[order], width[order]
    found, first = [], 0
    while first < len(units):
        last = int(torch.searchsorted(width, max(16, int(width[first]) * 3 // 2), right=True))
        found.append(units[first:last])
        first = last
    return found


def _between(edges: Edges, left: Tensor, right: Tensor) -> Tensor:
    """sum over edges of left_i m_e right_j for each repeat: (repeats, D) and (repeats, S) to (repeats,)."""
    if edges.rows is None or edges.cols is None:
        return ((left @ edges.value) * right).sum(1)
    shape = (len(edges.into), len(edges.out_of))
    matrix = torch.sparse_coo_tensor(torch.stack([edges.rows, edges.cols]), edges.value, shape, check_invariants=False)
    return (torch.sparse.mm(matrix, right.T.contiguous()).T * left).sum(1)
