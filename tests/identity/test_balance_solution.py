"""What holds at the balanced point, and what each option means: a failure here is a balance that is none.

The oracles are identities of the optimum (cuts, closed forms) and derivatives of the cost by autograd.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from equipoise import balance
from equipoise.balance import Lp, Mixture, balance_, chain_scales, deficit
from equipoise.balance.blocks import Edges
from equipoise.balance.newton import search
from equipoise.balance.solve import prepare
from tangles import Tangle, scaled_cost, tangle_graph


def network(*widths: int, seed: int = 0, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1], bias=bias, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def size(weight: torch.Tensor, p: float = 2.0) -> float:
    return float(weight.detach().double().abs().pow(p).sum())


def linear(model: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def test_one_hidden_layer_is_balanced_after_one_sweep() -> None:
    report = balance_(network(7, 20, 5), method="cyclic", tol=1e-13)
    assert report.iterations == 1


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.5])
def test_every_cut_costs_the_same_on_both_sides(p: float) -> None:
    """|W_h|^p + |b_h|^p = |W_(h+1)|^p at each hidden layer; inputs' edges and hidden biases cost what outputs' do."""
    model = network(6, 9, 4, 8, 3)
    balance_(model, p=p, tol=1e-12)
    layers = linear(model)
    for here, after in pairwise(layers):
        assert size(here.weight, p) + size(here.bias, p) == pytest.approx(size(after.weight, p), rel=1e-10)
    sources = size(layers[0].weight, p) + sum(size(layer.bias, p) for layer in layers[:-1])
    assert sources == pytest.approx(size(layers[-1].weight, p), rel=1e-10)


def test_without_biases_all_layers_have_one_norm() -> None:
    model = network(6, 9, 4, 8, 3, bias=False)
    balance_(model, tol=1e-12)
    norms = [size(layer.weight) for layer in linear(model)]
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-10)


@pytest.mark.parametrize("counted", [True, False])
def test_a_bias_is_always_scaled_and_costs_where_it_is_told_to(counted: bool) -> None:
    model = network(4, 6, 3)
    before, x = copy.deepcopy(model), torch.randn(9, 4, dtype=torch.float64)
    report = balance_(model, include_bias_cost=counted, tol=1e-12)
    torch.testing.assert_close(model(x), before(x), rtol=1e-12, atol=1e-12)
    first, second = linear(model)
    into = first.weight.square().sum(1) + (first.bias.square() if counted else 0.0)
    torch.testing.assert_close(into, second.weight.square().sum(0), rtol=1e-10, atol=0)
    expected = size(first.weight) + size(second.weight) + ((size(first.bias) + size(second.bias)) if counted else 0.0)
    assert report.cost_after == pytest.approx(expected, rel=1e-12)


def test_the_deficit_is_the_papers_sum_and_the_relative_one_its_largest_share() -> None:
    model = network(5, 7, 6, 2)
    first, second, third = linear(model)
    total, worst = 0.0, 0.0
    for here, after in ((first, second), (second, third)):
        a = (here.weight.square().sum(1) + here.bias.square()).detach()
        b = after.weight.square().sum(0).detach()
        total += float((a - b).square().sum())
        worst = max(worst, float(((a - b).abs() / (a + b)).max()))
    found = deficit(model)
    assert found.total == pytest.approx(total, rel=1e-12)
    assert found.max_relative == pytest.approx(worst, rel=1e-12)
    assert found.cost == pytest.approx(sum(size(w) for w in model.parameters()), rel=1e-12)
    signed = found.per_class["0"]
    a, b = first.weight.square().sum(1) + first.bias.square(), second.weight.square().sum(0)
    torch.testing.assert_close(signed, ((a - b) / (a + b)).detach(), rtol=1e-12, atol=1e-14)


COSTS = [Lp(2), Lp(0.6), Mixture([(1.0, 2.0), (0.4, 1.0)]), Mixture([(0.2, 3.0), (1.0, 0.5), (1.0, 1.0)])]


@pytest.mark.parametrize("cost", COSTS, ids=str)
@pytest.mark.parametrize("degree", [1.0, 2.0])
def test_gradient_and_hessian_are_those_of_the_cost(cost, degree: float) -> None:
    graph = tangle_graph(Tangle(6, seed=2, density=0.8, degree=degree), ties=[(0, 1)])
    problem = prepare(graph, cost).problem
    z = 0.3 * torch.randn(graph.rows.free, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = problem.marginals(z)
    f = lambda z: scaled_cost(graph, z, cost.terms)  # noqa: E731
    exact = torch.autograd.functional.hessian(f, z)
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(leaf), leaf)
    assert problem.total(at) == pytest.approx(float(f(z)), rel=1e-12)
    torch.testing.assert_close(problem.unit * at.gradient, slope, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(problem.unit * problem.hessian(at), exact, rtol=1e-10, atol=1e-9)
    for e in torch.eye(len(z), dtype=torch.float64):
        torch.testing.assert_close(problem.unit * problem.hessian_product(at, e), exact @ e, rtol=1e-10, atol=1e-9)


def test_a_step_that_is_too_long_is_shortened_until_the_cost_falls() -> None:
    problem = prepare(tangle_graph(Tangle(6, seed=2, density=0.8)), Lp(2)).problem
    z = problem.zero()
    at = problem.marginals(z)
    for length in (1e-3, 0.1, 3.0, 1e6):
        d = -length * at.gradient / at.gradient.norm()
        assert (problem.marginals(z + d).cost > at.cost) == (length > 1)
        found = search(problem, z, at, d)
        assert found is not None
        step = float((found[0] / d).mean())
        assert step == pytest.approx(1.0) or length > 1
        assert found[1].cost <= at.cost + 1e-4 * step * float(at.gradient @ d)
    assert search(problem, z, at, at.gradient) is None


def test_a_block_and_its_list_of_edges_are_one_and_the_same() -> None:
    value = torch.rand(3, 2, dtype=torch.float64)
    into, out_of = torch.tensor([1, 4, 5]), torch.tensor([2, 3])
    rows, cols = torch.arange(3).repeat_interleave(2), torch.arange(2).repeat(3)
    matrix, edges = Edges(2.0, value, into, out_of), Edges(2.0, value.flatten(), into, out_of, rows, cols)
    s, r = torch.rand(2, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    torch.testing.assert_close(matrix.push(s), edges.push(s))
    torch.testing.assert_close(matrix.pull(r), edges.pull(r))
    for a, b in zip(matrix.flat(), edges.flat(), strict=True):
        torch.testing.assert_close(a, b)


def test_equal_costs_are_theorem_d2s_balance_and_not_the_least_cost() -> None:
    cost = Mixture([(1.0, 2.0), (0.5, 1.0)])
    least, equal = network(5, 8, 6, 3), network(5, 8, 6, 3)
    minimum = balance_(least, cost, tol=1e-12)
    balance_(equal, cost, criterion="equal_cost", tol=1e-12)
    layers = linear(equal)
    for here, after in pairwise(layers):
        a = here.weight.square().sum(1) + 0.5 * here.weight.abs().sum(1) + here.bias.square() + 0.5 * here.bias.abs()
        b = after.weight.square().sum(0) + 0.5 * after.weight.abs().sum(0)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    there = sum(size(w) + 0.5 * size(w, 1) for w in equal.parameters())
    assert there > minimum.cost_after * (1 + 1e-6)
    same = network(5, 8, 6, 3)
    balance_(same, criterion="equal_cost", tol=1e-12)
    assert deficit(same).max_relative < 1e-11


def test_costs_and_weights_by_parameter() -> None:
    """A dict takes the exact name before a glob; a parameter's weight multiplies its cost, 0 leaves it out."""
    model = network(5, 8, 3)
    rule = {"*.weight": Lp(3), "0.weight": Lp(1), "*.bias": Lp(2)}
    report = balance_(model, rule, weights={"0.bias": 4.0, "2.bias": 0.0}, tol=1e-12)
    first, second = linear(model)
    into = first.weight.abs().sum(1) + 2 * 4.0 * first.bias.square()
    torch.testing.assert_close(into, 3 * second.weight.abs().pow(3).sum(0), rtol=1e-10, atol=0)
    expected = size(first.weight, 1) + 4.0 * size(first.bias) + size(second.weight, 3)
    assert report.cost_after == pytest.approx(expected, rel=1e-12)


def test_a_weight_on_every_parameter_changes_nothing_but_the_unit() -> None:
    a, b = network(5, 8, 6, 3), network(5, 8, 6, 3)
    one, other = balance_(a, tol=1e-12), balance_(b, weights={"*": 1e6}, tol=1e-12)
    assert other.cost_after == pytest.approx(1e6 * one.cost_after, rel=1e-12)
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=0)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_tied_layers_have_the_closed_form(p: float) -> None:
    """Without biases all matrices end at the geometric mean of their costs."""
    model = network(6, 9, 4, 8, 3, bias=False)
    costs = [size(layer.weight, p) for layer in linear(model)]
    mean = math.prod(costs) ** 0.25
    report = balance_(model, p=p, method="tied", tol=1e-12)
    assert [size(layer.weight, p) for layer in linear(model)] == pytest.approx([mean] * 4, rel=1e-12)
    assert report.iterations == 0
    for name, scale in zip(("0", "2", "4"), chain_scales(costs, p), strict=True):
        torch.testing.assert_close(report.log_scales[name].exp(), torch.full_like(report.log_scales[name], scale))


def test_groups_share_one_scale_and_their_inner_edges_count_nowhere() -> None:
    model = network(4, 5, 6, 3, seed=1)
    before = copy.deepcopy(model)
    report = balance_(model, groups=[[("0", [0, 1]), ("2", [2])]], tol=1e-12)
    first, second = report.log_scales["0"], report.log_scales["2"]
    assert float(first[0]) == pytest.approx(float(first[1]), abs=1e-12)
    assert float(first[0]) == pytest.approx(float(second[2]), abs=1e-12)
    assert float((first[0] - first[2]).abs()) > 1e-3
    a, b, c = linear(model)
    into = a.weight[:2].square().sum() + a.bias[:2].square().sum() + b.weight[2, 2:].square().sum() + b.bias[2].square()
    out = c.weight[:, 2].square().sum() + b.weight[:, :2].square().sum() - b.weight[2, :2].square().sum()
    torch.testing.assert_close(into, out, rtol=1e-10, atol=0)
    torch.testing.assert_close(b.weight[2, :2], linear(before)[1].weight[2, :2], rtol=0, atol=0)
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(model(x), before(x), rtol=1e-12, atol=1e-12)


def test_a_group_of_a_whole_layer_is_that_layer_tied() -> None:
    one, other = network(4, 5, 3), network(4, 5, 3)
    balance_(one, groups=["0"], tol=1e-12)
    balance_(other, method="tied", tol=1e-12)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=0)


def test_a_depthwise_and_a_grouped_convolution_balance_per_channel() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, dtype=torch.float64),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=6, dtype=torch.float64),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 1, groups=2, dtype=torch.float64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 9, 5, dtype=torch.float64),
    )
    x = torch.randn(3, 2, 10, 10, dtype=torch.float64)
    y = model(x)
    report = balance_(model, example=x, tol=1e-12)
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
    first, depth, grouped, last = (model[k] for k in (0, 2, 4, 7))
    into = first.weight.square().sum((1, 2, 3)) + first.bias.square()
    torch.testing.assert_close(into, depth.weight.square().sum((1, 2, 3)), rtol=1e-10, atol=0)
    into = depth.weight.square().sum((1, 2, 3)) + depth.bias.square()
    out = grouped.weight.square().view(2, 2, 3).sum(1).flatten()
    torch.testing.assert_close(into, out, rtol=1e-10, atol=0)
    into = grouped.weight.square().sum((1, 2, 3)) + grouped.bias.square()
    torch.testing.assert_close(into, last.weight.square().view(5, 4, 9).sum((0, 2)), rtol=1e-10, atol=0)
    assert report.cost_after < report.cost_before
    assert balance.deficit(model, example=x).max_relative < 1e-11
