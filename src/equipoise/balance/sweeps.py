"""Coordinate methods: each unit's exact best scale, cyclic by colours, damped in parallel, or in a random order.

Along one free log-scale t the cost is sum_k S_k exp(q_k t): S_k adds up the costs of the edges whose exponent, times
their power, is q_k. Its minimiser is the unit's best scale (``scalar.best_step``); a favourable partial scaling takes
the fraction theta of it, 0 < theta <= 1, and also lowers the cost, because the cost is convex in t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from equipoise.balance.colours import colours
from equipoise.balance.flat import FlatSums, take_best_step
from equipoise.balance.newton import Progress, Solution
from equipoise.balance.problem import Edges, Marginals, Problem
from equipoise.balance.scalar import best_step
from equipoise.randomness import generator

__all__ = ["PlainSums", "cyclic", "parallel", "presweep", "stochastic"]

PATIENCE = 200  # sweeps without a better deficit or a lower cost, after which rounding is what is left
BETTER = 0.999
ROUNDING = 1e-13  # of the cost
FEW = 8  # colours


class Sums(Protocol):
    """What a coordinate method needs: a step of chosen log-scales, and a fresh evaluation against rounding."""

    z: Tensor

    def visit(self, ids: Tensor, strength: float) -> tuple[float, float]: ...

    def refresh(self) -> None: ...


class PlainSums:
    """Sums of a plain problem from its blocks: exponents p (what enters) and -p (what leaves) for each power."""

    def __init__(self, problem: Problem, z: Tensor) -> None:
        self.problem, self.z = problem, z.clone()
        powers = [q for p in problem.powers for q in (p, -p)]
        self.exponents = torch.tensor(powers, dtype=torch.float64, device=z.device)
        self._places: dict[int, tuple[Tensor, list[tuple[Edges, Tensor | None, Tensor | None]]]] = {}
        u = problem.classes.spread(z)
        self.grow = {p: torch.exp(p * u) for p in problem.powers}
        self.shrink = {p: 1 / self.grow[p] for p in problem.powers}

    def _touched(self, ids: Tensor) -> list[tuple[Edges, Tensor | None, Tensor | None]]:
        """The blocks at ``ids`` with the rows and columns that are theirs, empty for none, None for all."""
        known = self._places.get(id(ids))
        if known is not None and known[0] is ids:
            return known[1]
        mask = self.z.new_zeros(self.problem.classes.count, dtype=torch.bool)
        mask[ids + 1] = True
        found = []
        for e in self.problem.edges:
            sides = [mask[side] for side in (e.into, e.out_of)]
            if any(bool(s.any()) for s in sides):
                found.append((e, *(None if bool(s.all()) else s.nonzero().squeeze(1) for s in sides)))
        self._places[id(ids)] = (ids, found)
        return found

    def of(self, ids: Tensor) -> Tensor:
        """S of the log-scales ``ids``: (n, K)."""
        problem = self.problem
        total = {p: (problem.inflow[p] * self.grow[p], problem.outflow[p] * self.shrink[p]) for p in problem.powers}
        problem.spend(2 * len(problem.powers) * len(ids))
        for e, rows, cols in self._touched(ids):
            p = e.power
            entering, leaving = total[p]
            grow, shrink = self.grow[p][e.at_into], self.shrink[p][e.at_out_of]
            if rows is None or (len(rows) and e.rows is not None):
                entering[e.at_into] += grow * e.push(shrink)
                problem.spend(e.value.numel())
            elif len(rows):
                entering[e.into[rows]] += grow[rows] * (e.value[rows] @ shrink)
                problem.spend(len(rows) * len(shrink))
            if cols is None or (len(cols) and e.rows is not None):
                leaving[e.at_out_of] += shrink * e.pull(grow)
                problem.spend(e.value.numel())
            elif len(cols):
                leaving[e.out_of[cols]] += shrink[cols] * (grow @ e.value[:, cols])
                problem.spend(len(cols) * len(grow))
        return torch.stack([side[ids + 1] for p in problem.powers for side in total[p]], 1)

    def move(self, ids: Tensor, step: Tensor) -> None:
        """Add ``step`` to the log-scales ``ids``."""
        self.z[ids] += step
        for p in self.problem.powers:
            self.grow[p][ids + 1] = torch.exp(p * self.z[ids])
            self.shrink[p][ids + 1] = torch.exp(-p * self.z[ids])

    def visit(self, ids: Tensor, strength: float) -> tuple[float, float]:
        """Take ``ids`` the fraction ``strength`` of the way to their best: their worst deficit, and the cost's fall."""
        return take_best_step(self, ids, strength)

    def refresh(self) -> None:
        """Nothing adds up here: the factors are made anew at every move."""


def _visit(
    problem: Problem,
    z: Tensor,
    at: Marginals,
    sums: Sums,
    sets: Callable[[], Sequence[Tensor]],
    *,
    tol: float,
    max_iterations: int,
    strength: float,
    progress: Progress | None,
) -> Solution:
    """Sweeps over ``sets()`` until no unit of a sweep was off by more than ``tol`` and the last point is balanced."""
    cost, best, since = at.cost, math.inf, 0
    iteration = 0
    while at.deficit > tol and iteration < max_iterations and since < PATIENCE:
        worst, chosen, earlier = 0.0, sets(), cost
        for ids in chosen:
            off, fall = sums.visit(ids, strength)
            worst, cost = max(worst, off), cost - fall
        sums.refresh()
        iteration += 1
        if progress is not None:
            progress(iteration, problem.unit * (cost + problem.constant), worst)
        since = 0 if worst < BETTER * best or cost < earlier * (1 - ROUNDING) else since + 1
        best = min(best, worst)
        if worst <= tol or len(chosen) == 1:  # units that share no weight are balanced at once
            at = problem.marginals(sums.z.to(z.device))
    z = sums.z.to(z.device)
    return Solution(z, at if at.deficit <= tol else problem.marginals(z), iteration)


def cyclic(
    problem: Problem,
    z: Tensor,
    at: Marginals,
    *,
    tol: float,
    max_iterations: int,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> Solution:
    """Osborne's iteration: all units in turn, those without a common edge at once. A sweep is one weight pass."""
    sums: Sums
    if problem.classes.plain:
        sums, sets = PlainSums(problem, z), colours(problem)
    else:
        sums = FlatSums(problem, z)
        sets = sums.colours()
    return _visit(
        problem,
        z,
        at,
        sums,
        lambda: sets,
        tol=tol,
        max_iterations=max_iterations,
        strength=strength,
        progress=progress,
    )


def stochastic(
    problem: Problem,
    z: Tensor,
    at: Marginals,
    *,
    tol: float,
    max_iterations: int,
    strength: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Solution:
    """One unit after another, each round in a random order that ``seed`` gives (Theorem 5.1's schedule)."""
    live = (~problem.skipped).nonzero().squeeze(1).cpu()
    source = generator(seed, "balance", "stochastic")

    def order() -> Sequence[Tensor]:
        return live[torch.randperm(len(live), generator=source)].split(1)

    return _visit(
        problem,
        z,
        at,
        FlatSums(problem, z),
        order,
        tol=tol,
        max_iterations=max_iterations,
        strength=strength,
        progress=progress,
    )


def parallel(
    problem: Problem,
    z: Tensor,
    at: Marginals,
    *,
    tol: float,
    max_iterations: int,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> Solution:
    """All units at once, each by the fraction strength / r of its own best step, r units at most meeting in an edge.

    The damping makes the new cost at most the mean of costs that do not rise: F(z + sum_j t_j e_j / r) <= F(z), because
    every edge's cost is convex and depends on r log-scales at most (r = 2 in a plain network).
    """
    iteration, best, since = 0, math.inf, 0
    everyone = (~problem.skipped).nonzero().squeeze(1)
    flat = None if problem.classes.plain else FlatSums(problem, z)
    damping = strength / (2 if flat is None else flat.shared)
    exponents = PlainSums(problem, z).exponents if flat is None else flat.exponents
    while at.deficit > tol and iteration < max_iterations and since < PATIENCE:
        if flat is None:
            sides = [side[everyone + 1] for p in problem.powers for side in (at.enter[p], at.leave[p])]
            step = damping * best_step(torch.stack(sides, 1), exponents)
            z = z.index_add(0, everyone, step)
        else:
            ids = everyone.cpu()
            flat.move(ids, damping * best_step(flat.of(ids), exponents))
            flat.refresh()
            z = flat.z.to(z.device)
        earlier, at = at.cost, problem.marginals(z)
        iteration += 1
        if progress is not None:
            progress(iteration, problem.total(at), at.deficit)
        since = 0 if at.deficit < BETTER * best or at.cost < earlier * (1 - ROUNDING) else since + 1
        best = min(best, at.deficit)
    return Solution(z, at, iteration)


def presweep(
    problem: Problem, z: Tensor, at: Marginals, *, most: int, until: float, progress: Progress | None = None
) -> Solution:
    """At most ``most`` cyclic sweeps, while some unit is off by more than ``until``; plain problems of few colours."""
    sets = colours(problem) if problem.classes.plain and at.deficit > until else []
    if not 0 < len(sets) <= FEW:
        return Solution(z, at, 0)
    return _visit(
        problem,
        z,
        at,
        PlainSums(problem, z),
        lambda: sets,
        tol=until,
        max_iterations=most,
        strength=1.0,
        progress=progress,
    )
