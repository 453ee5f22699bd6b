"""Newton's method on the grounded Laplacian: conjugate gradients with a coarse correction, line search in log-scales.

Each step solves H d = -g only as far as it pays (forcing term), preconditioned by the diagonal and by the exact
solution on *aggregates*: classes that share a side of a block, usually those of one layer. H times a vector that is
constant on aggregates needs no weight pass, because the blocks' row and column sums tell it; so the correction is free,
and depth no longer slows the iteration. A trial point's marginals give its cost and the next gradient in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.balance.problem import Marginals, Problem

__all__ = ["Coarse", "Progress", "Solution", "aggregates", "newton"]

Progress: TypeAlias = Callable[[int, float, float], object]

DIRECT = 48  # free log-scales up to which the Hessian is factored as it is
COARSE_ENTRIES = 2**23  # of H P, beyond which the coarse correction is left out
ARMIJO = 1e-4
ROUNDING = 1e-13  # of the cost: below it a decrease cannot be seen, and the slope decides
HALVINGS = 40
PATIENCE = 30  # steps without a better deficit, after which rounding is what is left


@dataclass(frozen=True)
class Solution:
    """Where a method stopped: the log-scales (free,), what one pass says there, and after how many iterations."""

    z: Tensor
    at: Marginals
    iterations: int


def aggregates(problem: Problem) -> Tensor:
    """For each free log-scale the number of its aggregate (free,): those on one side of a block belong together."""
    classes = problem.classes
    sides = [ids for e in problem.edges for ids in (e.into, e.out_of)]
    parent = list(range(len(sides) + 1))

    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    side_of = torch.full((classes.count,), len(sides), dtype=torch.int64, device=classes.of_node.device)
    for k, ids in enumerate(sides):
        for other in torch.unique(side_of[ids]).tolist():
            if other != len(sides):
                parent[find(other)] = find(k)
        side_of[ids] = find(k)
    roots = torch.tensor([find(k) for k in range(len(parent))], device=side_of.device)
    return torch.unique(roots[side_of[1 : 1 + classes.free]], return_inverse=True)[1]


class Aggregates:
    """The aggregates of a plain problem: of each free log-scale, and of both sides of each block."""

    def __init__(self, problem: Problem) -> None:
        self.member = aggregates(problem)
        self.count = int(self.member.max()) + 1
        own = torch.cat([self.member.new_zeros(1), self.member])
        self.sides = [(int(own[e.into[0]]), int(own[e.out_of[0]])) for e in problem.edges]
        self.row = torch.arange(1, problem.classes.count, device=self.member.device)


class Coarse:
    """The correction on aggregates at one point: x -> P (P^T H P)^-1 P^T r, for plain problems.

    ``near`` is H P (free, aggregates), from the marginals alone.
    """

    def __init__(self, problem: Problem, at: Marginals, groups: Aggregates) -> None:
        self.member, self.count = groups.member, groups.count
        near = at.bend.new_zeros(problem.classes.count, self.count)
        near[groups.row, self.member] = at.bend[1:]
        for e, (pushed, pulled), (above, below) in zip(problem.edges, at.parts, groups.sides, strict=True):
            bend = e.power**2
            near[e.at_into, below] -= bend * at.grow[e.power][e.at_into] * pushed
            near[e.at_out_of, above] -= bend * at.shrink[e.power][e.at_out_of] * pulled
        self.near = near[1:]
        matrix = self.restrict(self.near)
        diagonal = matrix.diagonal()
        diagonal[diagonal <= 0] = 1.0
        self.factor, info = torch.linalg.cholesky_ex((matrix + matrix.T) / 2)
        self.usable = int(info) == 0

    def restrict(self, r: Tensor) -> Tensor:
        """P^T r: sums over aggregates."""
        return r.new_zeros(self.count, *r.shape[1:]).index_add_(0, self.member, r)

    def solve(self, r: Tensor) -> Tensor:
        """(P^T H P)^-1 of a vector (aggregates,)."""
        return torch.cholesky_solve(r[:, None], self.factor)[:, 0]

    def start(self, r: Tensor) -> Tensor:
        """P (P^T H P)^-1 P^T r, (free,)."""
        return self.solve(self.restrict(r))[self.member]

    def correct(self, x: Tensor, r: Tensor) -> Tensor:
        """What takes the residual of D^-1 r = ``x`` on the aggregates away: (P^T H P)^-1 P^T (r - H x), spread."""
        return x + self.solve(self.restrict(r) - x @ self.near)[self.member]


def _coarse(problem: Problem, at: Marginals, groups: Aggregates | None) -> Coarse | None:
    if groups is None:
        return None
    found = Coarse(problem, at, groups)
    return found if found.usable else None


def direction(problem: Problem, at: Marginals, coarse: Coarse | None, forcing: float, most: int) -> Tensor:
    """d with H d = -g, up to ``forcing`` of the largest relative deficit, by preconditioned conjugate gradients."""
    g = at.gradient
    inverse = torch.where(at.diagonal > 0, 1.0 / at.diagonal.clamp(min=torch.finfo(g.dtype).tiny), 0.0)
    weigh = 1.0 / (problem.largest * (at.inward + at.outward)).clamp(min=torch.finfo(g.dtype).tiny)
    goal = forcing * at.deficit
    if coarse is None:
        d, r = torch.zeros_like(g), -g
    else:
        d = coarse.start(-g)
        r = -g - coarse.near @ coarse.solve(coarse.restrict(-g))
    direction, before = torch.zeros_like(g), 0.0
    for step in range(most):
        if float((r.abs() * weigh).max()) <= goal:
            break
        y = inverse * r
        if coarse is not None:
            y = coarse.correct(y, r)
        along = float(r @ y)
        if not along > 0:
            break
        direction = y + (along / before) * direction if step else y
        product = problem.hessian_product(at, direction)
        bend = float(direction @ product)
        if not bend > 0:
            break
        d = d + (along / bend) * direction
        r = r - (along / bend) * product
        before = along
    return d


def _direct(problem: Problem, at: Marginals) -> Tensor:
    """d with H d = -g from the whole Hessian."""
    matrix = problem.hessian(at)
    still = at.diagonal <= 0
    matrix.diagonal()[still] = 1.0
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        return -at.gradient / at.diagonal.clamp(min=torch.finfo(torch.float64).tiny)
    return torch.cholesky_solve(-at.gradient[:, None], factor)[:, 0]


def search(problem: Problem, z: Tensor, at: Marginals, d: Tensor) -> tuple[Tensor, Marginals] | None:
    """The first of z + d, z + d/2, ... that lowers the cost enough (Armijo); None where none does.

    Where the decrease drowns in rounding, the slope along d decides: it must have shrunk.
    """
    slope = float(at.gradient @ d)
    if not slope < 0:
        return None
    t = 1.0
    for _ in range(HALVINGS):
        there = problem.marginals(z + t * d)
        if there.finite:
            if there.cost <= at.cost + ARMIJO * t * slope:
                return z + t * d, there
            level = there.cost <= at.cost + ROUNDING * abs(at.cost)
            if level and abs(float(there.gradient @ d)) <= 0.9 * abs(slope):
                return z + t * d, there
        t /= 2
    return None


def newton(
    problem: Problem,
    z: Tensor,
    at: Marginals,
    *,
    tol: float,
    max_iterations: int,
    progress: Progress | None = None,
    iteration: int = 0,
) -> Solution:
    """Lower the cost from ``z`` until the largest relative deficit is at most ``tol``, or no step lowers it."""
    free = problem.classes.free
    direct = free <= DIRECT
    groups = Aggregates(problem) if problem.classes.plain and not direct and at.deficit > tol else None
    if groups is not None and (groups.count < 2 or groups.count * free > COARSE_ENTRIES):
        groups = None
    best, since = math.inf, 0
    while at.deficit > tol and iteration < max_iterations and since < PATIENCE:
        if direct:
            d = _direct(problem, at)
        else:
            worst = at.deficit
            forcing = max(min(0.3, worst), 0.3 * tol / worst)
            d = direction(problem, at, _coarse(problem, at, groups), forcing, 4 * free + 20)
        found = search(problem, z, at, d)
        if found is None:
            break
        z, at = found
        iteration += 1
        best, since = (at.deficit, 0) if at.deficit < best else (best, since + 1)
        if progress is not None:
            progress(iteration, problem.total(at), at.deficit)
    return Solution(z, at, iteration)
