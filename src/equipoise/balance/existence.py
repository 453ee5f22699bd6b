"""Which units have a best scale at all: found before anything is solved, so that nothing runs off to infinity.

A minimiser exists and is unique iff no direction d != 0 of the free log-scales has a_e d <= 0 for every edge e that is
not zero (a_e: the edge's exponent row). For difference rows with positive gains that holds as soon as every unit lies
on a directed path of non-zero weights from the visible class to the visible class; without gains, only then. A unit
that is only on a cycle, A <-> B -> output, grows without end although both of its sums are positive. Components that
the paths do not settle (minus signs, products) go to a linear programme.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.balance.flat import flat_edges, spread_matrix
from equipoise.balance.problem import Problem

__all__ = ["UNREACHED", "WITHOUT_END", "remove_unsolvable"]

UNREACHED = "no path of non-zero weights from an input or bias"
NO_EXIT = "no path of non-zero weights to an output"
NEITHER = "on no path of non-zero weights, from an input or bias or to an output"
WITHOUT_END = "some direction of its scales lowers the cost without end"
SLACK = 1e-9


def remove_unsolvable(problem: Problem) -> dict[int, str]:
    """Take the units without a minimiser out of ``problem``; why, by the index of the free log-scale.

    What lies on no path decides nothing: its edges leave the problem, and the model's weights there stay. Other units
    without a minimiser (of components with general rows) are pinned: their edges stay, as those of a visible unit.
    Uses each block once in either direction, one weight pass, where the edges come in the order of the network.
    """
    entered = _reached(problem, problem.inflow, forward=True)
    left = _reached(problem, problem.outflow, forward=False)
    inside = (entered & left)[1 : 1 + problem.classes.free]
    gone = ~inside
    if problem.classes.plain and not bool(gone.any()):
        return {}
    if problem.classes.plain:
        problem.remove(gone)
    else:
        simple = _simple(problem)
        while bool((found := _endless(problem, inside & simple)).any()):
            problem.remove(found & ~inside)
            problem.pin(found & inside)
        gone = problem.skipped
    why = {}
    for k in gone.nonzero().squeeze(1).tolist():
        first, second = bool(entered[k + 1]), bool(left[k + 1])
        path = NO_EXIT if first else UNREACHED if second else NEITHER
        why[k] = WITHOUT_END if first and second else path
    return why


def _reached(problem: Problem, start: dict[float, Tensor], *, forward: bool) -> Tensor:
    """The classes (C,) that non-zero edges join to the visible class, along the edges or against them."""
    classes = problem.classes
    reached = torch.zeros(classes.count, dtype=torch.bool, device=classes.of_node.device)
    for flow in start.values():
        reached |= flow > 0
    _share(problem, reached)
    edges = problem.edges if forward else problem.edges[::-1]
    used = [0] * len(edges)
    grew = True
    while grew and not bool(reached[1:].all()):
        grew = False
        for k, e in enumerate(edges):
            source, target = (e.at_out_of, e.at_into) if forward else (e.at_into, e.at_out_of)
            here = reached[source]
            count = int(here.sum())
            if count == used[k] or bool(reached[target].all()):
                continue
            used[k] = count
            found = (e.push(here.to(torch.float64)) if forward else e.pull(here.to(torch.float64))) > 0
            problem.spend(e.value.numel())
            fresh = bool((found & ~reached[target]).any())
            if fresh:
                reached[target] |= found
                _share(problem, reached)
            grew |= fresh
    return reached


def _share(problem: Problem, reached: Tensor) -> None:
    """A general class is reached with any of its log-scales, and they with it: too much rather than too little."""
    classes = problem.classes
    if classes.plain:
        return
    low, high = reached[1 : 1 + classes.free], reached[1 + classes.free :]
    before = -1
    while before != (before := int(reached.sum())):
        low[classes.col[high[classes.row]]] = True
        high[classes.row[low[classes.col]]] = True


def _simple(problem: Problem) -> Tensor:
    """The log-scales (free,) whose classes all are positive multiples of one of them: paths settle these."""
    classes = problem.classes
    entries = torch.bincount(classes.row, minlength=classes.general)
    strange = (entries[classes.row] > 1) | (classes.coefficient < 0)
    simple = torch.ones(classes.free, dtype=torch.bool, device=classes.of_node.device)
    simple[classes.col[strange]] = False
    return simple


def _endless(problem: Problem, settled: Tensor) -> Tensor:
    """The log-scales (free,) that move in some direction d with a_e d <= 0 for every edge, d = 0 for those skipped.

    Components all of whose log-scales are ``settled`` have none.
    """
    import numpy as np
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    matrix = _exponents(problem)
    joined = abs(matrix).T @ abs(matrix)
    _, component = connected_components(joined + sparse.identity(matrix.shape[1]), directed=False)
    asked = np.isin(component, np.unique(component[~settled.cpu().numpy()])) & ~problem.skipped.cpu().numpy()
    found = np.zeros(len(asked), dtype=bool)
    if asked.any():
        found[asked] = _moving(matrix[:, asked].tocsr(), component[asked])
    return torch.from_numpy(found).to(settled.device)


def _exponents(problem: Problem) -> Any:
    """The distinct exponent rows of all edges that are not zero: a SciPy CSR matrix (rows, free)."""
    into, out_of, _, _ = flat_edges(problem)
    pairs = torch.unique(torch.stack([into, out_of], 1), dim=0).cpu().numpy()
    spread = spread_matrix(problem.classes)
    return (spread[pairs[:, 0]] - spread[pairs[:, 1]]).tocsr()


def _moving(matrix: Any, component: Any) -> Any:
    """Mask of the columns where some d with matrix d <= 0 is not 0: the support of the cone of all such d.

    The linear programme maximises sum s over 0 <= s <= 1, matrix d + s <= 0: s > 0 marks the rows that can fall. Every
    direction that leaves the other rows at 0 plus enough of that d is in the cone, so their null space has its support.
    """
    import numpy as np
    from scipy import sparse
    from scipy.optimize import linprog

    matrix = matrix[np.asarray(abs(matrix).sum(1)).ravel() > 0]
    rows, free = matrix.shape
    falls = np.zeros(rows, dtype=bool)
    if rows:
        objective = np.concatenate([np.zeros(free), -np.ones(rows)])
        bounds = [(None, None)] * free + [(0.0, 1.0)] * rows
        constraint = sparse.hstack([matrix, sparse.identity(rows)]).tocsr()
        solved = linprog(objective, A_ub=constraint, b_ub=np.zeros(rows), bounds=bounds, method="highs")
        falls = solved.x[free:] > SLACK
    still = matrix[~falls]
    gram = (still.T @ still).tocsc()
    moving = np.zeros(free, dtype=bool)
    for name in np.unique(component):
        columns = np.flatnonzero(component == name)
        values, vectors = np.linalg.eigh(gram[:, columns][columns].toarray())
        null = vectors[:, values <= SLACK * max(1.0, values[-1])]
        moving[columns] = (null**2).sum(1) > SLACK
    return moving
