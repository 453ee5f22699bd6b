"""What balancing must leave as it is, and what it must never do, on networks of any wiring.

A failure here means a changed network, a cost that rises, or a method with an answer of its own.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from equipoise import balance
from equipoise.balance import Lp, Mixture
from equipoise.balance.colours import colours
from equipoise.balance.flat import FlatSums
from equipoise.balance.solve import prepare
from equipoise.errors import InputError
from tangles import Tangle, edges_of, on_a_path, scaled_cost, tangle_graph

COSTS = (Lp(2), Lp(1), Lp(0.3), Lp(4), Mixture([(1.0, 2.0), (0.3, 1.0)]), Mixture([(0.5, 0.7), (1.0, 3.0), (2.0, 1.5)]))
UNTIED = ("newton", "cyclic", "parallel", "stochastic")

tangles = st.builds(
    Tangle,
    st.integers(1, 9),
    seed=st.integers(0, 10**6),
    density=st.sampled_from([0.25, 0.5, 1.0]),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
    degree=st.sampled_from([1.0, 1.0, 2.0, 0.5]),
)

# Coordinate steps need the more sweeps the more the weights differ, without a bound: for these, dense and even wiring.
even = st.builds(
    Tangle, st.integers(1, 7), seed=st.integers(0, 10**6), density=st.just(0.9), degree=st.sampled_from([1.0, 2.0])
)


def scaled(model: Tangle) -> bool:
    return bool(on_a_path(model))


def flat(report: balance.BalanceReport) -> torch.Tensor:
    return torch.cat([v.flatten() for v in report.log_scales.values()])


@settings(max_examples=40, deadline=None)
@given(model=tangles, cost=st.sampled_from(COSTS), seed=st.integers(0, 99))
def test_function_signs_and_zeros_stay_and_the_cost_never_rises(model: Tangle, cost, seed: int) -> None:
    assume(scaled(model))
    before = copy.deepcopy(model)
    graph = tangle_graph(model)
    seen = []
    report = balance.balance_(graph, cost, tol=1e-9, progress=lambda step, c, deficit: seen.append((step, c, deficit)))
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    old, new = before(x), model(x)
    assert (new - old).abs().max() <= 1e-12 * max(1.0, float(old.abs().max()))
    for a, b in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(a.sign(), b.sign())
    if model.degree == 1:  # from a unit to itself the factor is 1
        assert torch.equal(model.W.diagonal(), before.W.diagonal())
    zero = torch.zeros(graph.rows.free, dtype=torch.float64)
    assert report.cost_before == pytest.approx(float(scaled_cost(tangle_graph(before), zero, cost.terms)), rel=1e-12)
    assert report.cost_after == pytest.approx(float(scaled_cost(graph, zero, cost.terms)), rel=1e-9)
    costs = [report.cost_before, *(c for _, c, _ in seen), report.cost_after]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(costs))
    assert [step for step, _, _ in seen] == list(range(1, report.iterations + 1))
    assert report.deficit <= 1e-9
    assert all(math.isfinite(c) and math.isfinite(d) for _, c, d in seen)


@settings(max_examples=20, deadline=None)
@given(model=tangles, seed=st.integers(0, 10**6))
def test_path_and_cycle_sums_vanish(model: Tangle, seed: int) -> None:
    """Along a walk from visible to visible the log-factors of the weights add up to 0: cycles inside it included."""
    assume(scaled(model) and model.degree == 1)
    before = copy.deepcopy(model)
    balance.balance_(tangle_graph(model))
    old = {(a, b, k): w for k, (a, b, w) in enumerate(edges_of(before))}
    new = [w for _, _, w in edges_of(model)]
    units = on_a_path(before) | {0}
    source = torch.Generator().manual_seed(seed)
    leaving: dict[int, list[tuple[int, float]]] = {}
    for (a, b, k), w in old.items():
        if a in units and b in units:
            leaving.setdefault(a, []).append((b, float((new[k] / w).log())))
    for _ in range(20):
        here, total = 0, 0.0
        for _ in range(200):
            choices = leaving[here]
            here, change = choices[int(torch.randint(len(choices), (), generator=source))]
            total += change
            if here == 0:
                assert abs(total) < 1e-9
                total = 0.0


@settings(max_examples=15, deadline=None)
@given(model=even, cost=st.sampled_from(COSTS), method=st.sampled_from(UNTIED[1:]))
def test_the_untied_methods_agree(model: Tangle, cost, method: str) -> None:
    assume(scaled(model))
    other = copy.deepcopy(model)
    ours = balance.balance_(tangle_graph(model), cost, tol=1e-11)
    theirs = balance.balance_(tangle_graph(other), cost, method=method, tol=1e-11)
    assert theirs.cost_after == pytest.approx(ours.cost_after, rel=1e-11)
    assert torch.allclose(flat(ours), flat(theirs), rtol=0, atol=1e-8)
    assert [str(s) for s in ours.skipped] == [str(s) for s in theirs.skipped]


@settings(max_examples=40, deadline=None)
@given(
    model=tangles,
    cost=st.sampled_from(COSTS[:5]),
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=3),
)
def test_ties_and_minus_signs_hold_at_the_solution(model: Tangle, cost, pairs) -> None:
    """v_i = v_j or v_i = -v_j for any pairs: the function stays, the gradient by every free log-scale is 0."""
    pairs = [(i % model.n, j % model.n, plus and k > 0) for k, (i, j, plus) in enumerate(pairs)]
    ties = [(i, j) for i, j, plus in pairs if plus]
    opposed = [(i, j) for i, j, plus in pairs if not plus]
    before = copy.deepcopy(model)
    graph = tangle_graph(model, ties=ties, opposed=opposed)
    start = torch.zeros(graph.rows.free, dtype=torch.float64)
    try:
        report = balance.balance_(graph, cost)
    except InputError as error:
        refused = str(error)
        assert "no unit of the model can be scaled" in refused
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
        return
    v = report.log_scales["h"]
    assert all(abs(float(v[i] - v[j])) < 1e-9 for i, j in ties)
    assert all(abs(float(v[i] + v[j])) < 1e-9 for i, j in opposed)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert (model(x) - before(x)).abs().max() <= 1e-12 * max(1.0, float(before(x).abs().max()))
    assert report.cost_after <= report.cost_before * (1 + 1e-12)
    if not report.skipped:
        z = start.clone().requires_grad_()
        total = scaled_cost(graph, z, cost.terms)
        (gradient,) = torch.autograd.grad(total, z)
        assert float(gradient.abs().max()) <= 1e-7 * float(total.detach())


@settings(max_examples=40, deadline=None)
@given(model=tangles)
def test_exactly_the_units_without_a_path_are_skipped(model: Tangle) -> None:
    assume(scaled(model) and model.degree == 1)
    before = copy.deepcopy(model)
    report = balance.balance_(tangle_graph(model))
    skipped = {unit + 1 for entry in report.skipped for unit in entry.units}
    assert skipped == set(range(1, model.n + 1)) - on_a_path(before)
    old, new = edges_of(before), edges_of(model)
    untouched = [k for k, (a, b, _) in enumerate(old) if {a, b} & skipped]
    assert all(torch.equal(old[k][2], new[k][2]) for k in untouched)
    assert all(float(report.log_scales["h"][unit - 1]) == 0.0 for unit in skipped)


@settings(max_examples=8, deadline=None)
@given(model=even, strength=st.sampled_from([0.5, 0.8, 0.95]), method=st.sampled_from(UNTIED[1:]))
def test_favourable_partial_scalings_reach_the_same_point(model: Tangle, strength: float, method: str) -> None:
    assume(scaled(model))
    other = copy.deepcopy(model)
    whole = balance.balance_(tangle_graph(model), tol=1e-12)
    costs = []
    part = balance.balance_(
        tangle_graph(other), method=method, tol=1e-11, strength=strength, progress=lambda _, c, __: costs.append(c)
    )
    assert torch.allclose(flat(whole), flat(part), rtol=0, atol=1e-8)
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(costs))


@settings(max_examples=20, deadline=None)
@given(model=tangles, cost=st.sampled_from(COSTS))
def test_what_is_balanced_stays_bit_by_bit(model: Tangle, cost) -> None:
    assume(scaled(model))
    balance.balance_(tangle_graph(model), cost, tol=1e-12)
    once = copy.deepcopy(model)
    for method in UNTIED:
        report = balance.balance_(tangle_graph(model), cost, method=method, tol=1e-10)
        assert not report.changed
        assert report.iterations == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), once.parameters(), strict=True))


@pytest.mark.parametrize("method", UNTIED[1:])
def test_the_methods_agree_with_minus_signs_and_degrees(method: str) -> None:
    """Two units with opposite log-scales, two with the same, all of degree 2: exponents 1, -1, -2, 2, 3."""
    reports = []
    for name in ("newton", method):
        graph = tangle_graph(Tangle(6, seed=5, density=0.8, degree=2.0), ties=[(0, 1)], opposed=[(2, 3)])
        costs = []
        reports.append(
            balance.balance_(graph, method=name, tol=1e-11, progress=lambda _, c, __, costs=costs: costs.append(c))
        )
        assert all(b <= a * (1 + 1e-12) for a, b in pairwise([reports[-1].cost_before, *costs]))
    assert torch.allclose(flat(reports[0]), flat(reports[1]), rtol=0, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(model=tangles)
def test_no_two_of_one_colour_meet_in_an_edge(model: Tangle) -> None:
    assume(scaled(model))
    problem = prepare(tangle_graph(model), Lp(2)).problem
    sets = FlatSums(problem, problem.zero()).colours() if model.degree != 1 else colours(problem)
    assert sorted(torch.cat(sets).tolist()) == (~problem.skipped).nonzero().squeeze(1).tolist()
    for chosen in sets:
        members = set((chosen + 1).tolist())
        assert not any(a != b and {a, b} <= members for a, b, _ in edges_of(model))


def test_a_chain_of_layers_has_two_colours() -> None:
    layers = [torch.nn.Linear(4, 4) for _ in range(6)]
    problem = prepare(balance.graph(torch.nn.Sequential(*layers)), Lp(2)).problem
    odd, even = (sorted((c // 4).unique().tolist()) for c in colours(problem))
    assert (odd, even) == ([0, 2, 4], [1, 3])


@pytest.mark.parametrize(("method", "share"), [("cyclic", 1.0), ("stochastic", 1.0), ("parallel", 0.5)])
def test_the_first_step_takes_the_share_that_was_asked_for(method: str, share: float) -> None:
    """One hidden layer, sides A and B: at theta of the way both end at A^(1-h) B^h and A^h B^(1-h), h = theta / 2."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 9, bias=False), torch.nn.ReLU(), torch.nn.Linear(9, 3)).double()
    a = model[0].weight.detach().square().sum(1)
    b = model[2].weight.detach().square().sum(0)
    costs = []
    balance.balance_(model, method=method, strength=0.6, progress=lambda _, c, __: costs.append(c))
    h = 0.6 * share / 2
    expected = (a ** (1 - h) * b**h + a**h * b ** (1 - h)).sum() + model[2].bias.detach().square().sum()
    assert costs[0] == pytest.approx(float(expected), rel=1e-12)


def test_the_order_of_random_steps_is_the_seeds() -> None:
    runs = []
    for seed in (0, 0, 1):
        model, seen = Tangle(8, seed=3, density=0.6), []
        balance.balance_(
            tangle_graph(model), method="stochastic", seed=seed, progress=lambda _, c, d, seen=seen: seen.append((c, d))
        )
        runs.append(seen)
    assert runs[0] == runs[1] != runs[2]
