"""Balance against SciPy's minimisers, which know nothing of graphs, sweeps or Laplacians.

A failure would mean that what we call the least cost is not.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

from equipoise import balance
from equipoise.balance import Lp, Mixture
from equipoise.balance.scalar import best_step
from tangles import Tangle, on_a_path, scaled_cost, tangle_graph

COSTS = [
    Lp(2),
    Lp(1),
    Lp(0.5),
    Lp(3.5),
    Mixture([(1.0, 2.0), (0.3, 1.0)]),
    Mixture([(1.0, 0.5), (2.0, 3.0), (1.0, 1.5)]),
]


def least(graph, cost, free: int, spread=lambda z: z) -> tuple[float, np.ndarray]:
    """SciPy's minimum of the cost from its definition: quasi-Newton, autograd's gradient, over log F for its scaling."""

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.from_numpy(x.copy()).requires_grad_()
        value = scaled_cost(graph, spread(z), cost.terms).log()
        (slope,) = torch.autograd.grad(value, z)
        return value.item(), slope.numpy()

    found = minimize(
        f,
        np.zeros(free),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-12, "maxls": 60},
    )
    return float(np.exp(found.fun)), found.x


@pytest.mark.parametrize("cost", COSTS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_least_cost_is_scipys(cost, seed: int) -> None:
    model = Tangle(7, seed=seed, density=0.9, spread=0.7)
    graph = tangle_graph(model)
    value, x = least(graph, cost, graph.rows.free)
    report = balance.balance_(graph, cost)
    assert not report.skipped
    assert report.cost_after <= value * (1 + 1e-12)
    assert report.cost_after == pytest.approx(value, rel=1e-9)
    found = report.log_scales["h"].numpy()
    assert np.abs(found - x).max() < 2e-4


@pytest.mark.parametrize("degree", [0.5, 2.0, 3.0])
def test_units_of_another_degree_and_ties_with_a_minus_sign(degree: float) -> None:
    model = Tangle(6, seed=5, density=0.9, degree=degree)
    graph = tangle_graph(model, ties=[(0, 3)], opposed=[(1, 2)])
    value, _ = least(graph, Lp(2), graph.rows.free)
    report = balance.balance_(graph, tol=1e-11)
    assert not report.skipped
    assert report.cost_after == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("cost", COSTS[:3] + COSTS[4:5], ids=str)
def test_one_scale_a_layer_with_biases(cost) -> None:
    """The tied optimum by a minimiser over one number for each layer; it is not that of single units."""
    torch.manual_seed(0)
    widths = (5, 8, 6, 7, 3)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, dtype=torch.float64), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    other = copy.deepcopy(model)
    graph = balance.graph(model)
    member = torch.tensor(np.repeat([0, 1, 2], widths[1:4]))
    value, x = least(graph, cost, 3, lambda z: z[member])
    report = balance.balance_(graph, cost, method="tied", tol=1e-12)
    assert report.cost_after == pytest.approx(value, rel=1e-10)
    for k, name in enumerate(("0", "2", "4")):
        assert report.log_scales[name].numpy() == pytest.approx(np.full(widths[k + 1], x[k]), abs=1e-4)
    assert balance.balance_(other, cost).cost_after < report.cost_after * (1 - 1e-4)


def test_the_best_scales_are_those_of_a_bounded_search() -> None:
    source = torch.Generator().manual_seed(3)
    exponents = torch.tensor([2.0, 0.5, -1.0, -3.0, -0.7], dtype=torch.float64)
    sums = torch.exp(4 * torch.randn(30, 5, generator=source, dtype=torch.float64))
    steps = best_step(sums, exponents)
    for s, t in zip(sums, steps, strict=True):
        f = lambda x, s=s: float((s * torch.exp(exponents * float(x[0]))).sum().log())  # noqa: E731
        found = minimize(f, [0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-15})
        assert float(t) == pytest.approx(found.x[0], abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_units_are_skipped_where_a_linear_programme_finds_a_way_down(seed: int) -> None:
    """A unit moves in some direction along which no edge's cost rises iff it is on no path of non-zero weights."""
    model = Tangle(6, seed=seed, density=0.25)
    rows = []
    for name, into, out in (("W", True, True), ("U", True, False), ("V", False, True)):
        for i, j in getattr(model, name).nonzero().tolist():
            row = np.zeros(6)
            row[i] += into
            row[j] -= out
            rows.append(row)
    rows += [np.eye(6)[i] for (i,) in model.b.nonzero().tolist()]
    matrix = np.stack(rows)
    moves = set()
    for unit in range(6):
        for sign in (1.0, -1.0):
            goal = sign * np.eye(6)[unit]
            found = linprog(-goal, A_ub=matrix, b_ub=np.zeros(len(matrix)), bounds=[(-1, 1)] * 6, method="highs")
            if -found.fun > 1e-9:
                moves.add(unit)
    assert moves == set(range(6)) - {k - 1 for k in on_a_path(model)}
    if len(moves) < 6:
        report = balance.balance_(tangle_graph(model))
        assert {unit for entry in report.skipped for unit in entry.units} == moves
