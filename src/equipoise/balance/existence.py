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

    Uses each block once in either direction, one weight pass, where the edges come in the order of the network.
    """
    classes = problem.classes
    entered = _reached(problem, problem.inflow, forward=True)
    left = _reached(problem, problem.outflow, forward=False)
    good = entered & left
    gone = ~good[1:] if classes.plain else _unsettled(problem, good)
    why = {}
    for k in gone.nonzero().squeeze(1).tolist():
        first, second = bool(entered[k + 1]), bool(left[k + 1])
        plain_reason = NO_EXIT if first and not second else UNREACHED if second and not first else NEITHER
        why[k] = plain_reason if classes.plain or not (first and second) else WITHOUT_END
    if why:
        mask = classes.spread(gone.to(torch.float64), size=True) > 0
        problem.remove(mask)
    return why


def _reached(problem: Problem, start: dict[float, Tensor], *, forward: bool) -> Tensor:
    """The classes (C,) that non-zero edges join to the visible class, along the edges or against them."""
    classes = problem.classes
    reached = torch.zeros(classes.count, dtype=torch.bool, device=classes.of_node.device)
    for flow in start.values():
        reached |= flow > 0
    _share(problem, reached)
    edges = problem.edges if forward else problem.edges[::-1]
    due = [True] * len(edges)
    while any(due):
        for k, e in enumerate(edges):
            if not due[k]:
                continue
            due[k] = False
            source, target = (e.out_of, e.into) if forward else (e.into, e.out_of)
            signal = reached[source].to(torch.float64)
            if not bool(signal.any()) or bool(reached[target].all()):
                continue
            found = e.push(signal) if forward else e.pull(signal)
            problem.spend(e.value.numel())
            fresh = (found > 0) & ~reached[target]
            if not bool(fresh.any()):
                continue
            reached[target[fresh]] = True
            _share(problem, reached)
            touched = torch.zeros_like(reached)
            touched[target[fresh]] = True
            for other, f in enumerate(edges):
                due[other] |= not classes.plain or bool(touched[f.out_of if forward else f.into].any())
    return reached


def _share(problem: Problem, reached: Tensor) -> None:
    """Classes that are a positive multiple of one log-scale are reached together."""
    classes = problem.classes
    if classes.plain:
        return
    gain = _gains(problem)
    single = gain >= 0
    general = torch.arange(1 + classes.free, classes.count, device=reached.device)
    low = torch.zeros(classes.free, dtype=torch.bool, device=reached.device)
    low |= reached[1 : 1 + classes.free]
    hit = general[single & reached[general]]
    low[gain[hit - 1 - classes.free]] = True
    reached[1 : 1 + classes.free] = low
    reached[general[single]] = low[gain[single]]


def _gains(problem: Problem) -> Tensor:
    """For each general class the one log-scale that it is a positive multiple of, -1 where it is anything else."""
    classes = problem.classes
    device = classes.of_node.device
    entries = torch.bincount(classes.row, minlength=classes.general)
    gain = torch.full((classes.general,), -1, dtype=torch.int64, device=device)
    fits = (entries[classes.row] == 1) & (classes.coefficient > 0)
    gain[classes.row[fits]] = classes.col[fits]
    return gain


def _unsettled(problem: Problem, good: Tensor) -> Tensor:
    """The log-scales (free,) without a minimiser, in a problem with general rows."""
    import numpy as np
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    classes = problem.classes
    matrix = _exponents(problem)
    joined = abs(matrix).T @ abs(matrix)
    _, component = connected_components(joined + sparse.identity(classes.free), directed=False)
    gains = _gains(problem)
    mixed = torch.zeros(classes.free, dtype=torch.bool)
    strange = (gains < 0)[classes.row]
    mixed[classes.col[strange].cpu()] = True
    settled = good[1 : 1 + classes.free].cpu() & ~mixed
    open_components = np.unique(component[(~settled).numpy()])
    gone = np.zeros(classes.free, dtype=bool)
    asked = np.isin(component, open_components)
    if asked.any():
        gone[asked] = _without_minimiser(matrix[:, asked].tocsr(), component[asked])
    return torch.from_numpy(gone).to(classes.of_node.device)


def _exponents(problem: Problem) -> Any:
    """The distinct exponent rows of all edges that are not zero: a SciPy CSR matrix (rows, free)."""
    into, out_of, _, _ = flat_edges(problem)
    pairs = torch.unique(torch.stack([into, out_of], 1), dim=0).cpu().numpy()
    spread = spread_matrix(problem.classes)
    return (spread[pairs[:, 0]] - spread[pairs[:, 1]]).tocsr()


def _without_minimiser(matrix: Any, component: Any) -> Any:
    """Mask of the columns whose component has a direction d with matrix d <= 0, d != 0.

    A strict direction maximises sum s over 0 <= s <= 1, matrix d + s <= 0. Where s = 0 is all that exists, matrix d = 0
    is left, and a component is short of rank.
    """
    import numpy as np
    from scipy import sparse
    from scipy.optimize import linprog

    rows, free = matrix.shape
    objective = np.concatenate([np.zeros(free), -np.ones(rows)])
    bounds = [(None, None)] * free + [(0.0, 1.0)] * rows
    constraint = sparse.hstack([matrix, sparse.identity(rows)]).tocsr()
    solved = linprog(objective, A_ub=constraint, b_ub=np.zeros(rows), bounds=bounds, method="highs")
    slack = solved.x[free:] if solved.x is not None else np.ones(rows)
    gone = np.zeros(free, dtype=bool)
    strict = abs(matrix[slack > SLACK]).sum(0)
    bad = set(component[np.asarray(strict).ravel() > 0])
    for name in np.unique(component):
        columns = component == name
        if name not in bad:
            block = matrix[:, columns].toarray()
            if np.linalg.matrix_rank(block[np.abs(block).sum(1) > 0]) == columns.sum():
                continue
        gone |= columns
    return gone
