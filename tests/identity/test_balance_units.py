"""One unit at a time: a failure here is a scale that is not the best one, or an operation that changes the network.

The oracles are the closed forms of the paper (sections 2, 3 and E), roots of polynomials, and the definition of cost.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equipoise import balance
from equipoise.balance import Lp, Mixture, balance_unit_, optimal_scale, scale_unit_
from equipoise.errors import InputError


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1], dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def in_and_out(model: nn.Sequential, layer: int, unit: int, p: float = 2.0) -> tuple[float, float]:
    """A and B of a unit of a chain, by the definition: |incoming|^p with the bias, |outgoing|^p."""
    into, out = model[layer], model[layer + 2]
    a = into.weight[unit].abs().pow(p).sum() + into.bias[unit].abs().pow(p)
    return float(a.detach()), float(out.weight[:, unit].abs().pow(p).sum().detach())


def cost(model: nn.Module, p: float = 2.0) -> float:
    return sum(float(w.detach().abs().pow(p).sum()) for w in model.parameters())


def weights(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), unit=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_scaling_keeps_the_function_signs_and_zeros(scale: float, unit: int, seed: int) -> None:
    model = network(3, 5, 4, 2, seed=seed)
    with torch.no_grad():
        model[2].weight[:, unit][0] = 0.0
    before, x = copy.deepcopy(model), weights(seed, 6, 3)
    scale_unit_(model, "0", unit, scale)
    assert torch.allclose(model(x), before(x), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(a.sign(), b.sign()) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    torch.testing.assert_close(model[0].weight[unit], scale * before[0].weight[unit], rtol=1e-14, atol=0)
    torch.testing.assert_close(model[0].bias[unit], scale * before[0].bias[unit], rtol=1e-14, atol=0)
    torch.testing.assert_close(model[2].weight[:, unit], before[2].weight[:, unit] / scale, rtol=1e-14, atol=0)


def test_scalings_commute_and_compose() -> None:
    """S_a S_b = S_ab on one unit; on two units the order does not matter."""
    once, twice, other = (network(3, 5, 4, 2) for _ in range(3))
    scale_unit_(once, "0", 1, 6.0)
    scale_unit_(twice, "0", 1, 2.0)
    scale_unit_(twice, "0", 1, 3.0)
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)
    scale_unit_(twice, "2", 0, 0.5)
    scale_unit_(other, "2", 0, 0.5)
    scale_unit_(other, "0", 1, 6.0)
    for a, b in zip(other.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_above_zero(scale: float) -> None:
    model = network(3, 5, 2)
    before = copy.deepcopy(model)
    with pytest.raises(InputError, match="a scale must be a finite number above 0"):
        scale_unit_(model, "0", 1, scale)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_units_that_cannot_be_scaled_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(InputError, match="unit 1 of '0' is visible"):
        scale_unit_(model, "0", 1, 2.0)
    with pytest.raises(InputError, match="layer '2' has units 0 to 3, not 4"):
        scale_unit_(model, "2", 4, 2.0)
    with pytest.raises(InputError, match="unknown layer '3'"):
        balance_unit_(model, "3", 0)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
def test_the_best_scale_balances_and_lowers_the_cost_by_the_closed_form(p: float) -> None:
    """lam = (B / A)^(1 / 2p); both sides then cost sqrt(A B); the cost falls by (sqrt A - sqrt B)^2."""
    model = network(3, 5, 4, 2)
    a, b = in_and_out(model, 0, 2, p)
    before = cost(model, p)
    scale = balance_unit_(model, "0", 2, Lp(p))
    assert scale == pytest.approx((b / a) ** (1 / (2 * p)), rel=1e-13)
    assert in_and_out(model, 0, 2, p) == pytest.approx((math.sqrt(a * b),) * 2, rel=1e-12)
    assert before - cost(model, p) == pytest.approx((math.sqrt(a) - math.sqrt(b)) ** 2, rel=1e-10)
    assert balance_unit_(model, "0", 2, Lp(p)) == pytest.approx(1.0, abs=1e-14)  # idempotent


def test_order_matters_exactly_for_units_that_share_a_weight() -> None:
    def after(order: list[tuple[str, int]]) -> torch.Tensor:
        model = network(2, 3, 3, 2, seed=4)
        for layer, unit in order:
            balance_unit_(model, layer, unit)
        return nn.utils.parameters_to_vector(model.parameters()).detach()

    apart = [("0", 0), ("0", 2)]
    joined = [("0", 0), ("2", 1)]
    torch.testing.assert_close(after(apart), after(apart[::-1]), rtol=1e-13, atol=0)
    assert (after(joined) - after(joined[::-1])).abs().max() > 1e-3


def test_a_partial_scaling_takes_a_power_of_the_best() -> None:
    whole, part = network(3, 5, 2), network(3, 5, 2)
    start = cost(part)
    best = balance_unit_(whole, "0", 3)
    assert balance_unit_(part, "0", 3, strength=0.3) == pytest.approx(best**0.3, rel=1e-13)
    assert cost(whole) < cost(part) < start


def test_a_self_loop_counts_on_neither_side() -> None:
    """Of a recurrent unit the weight onto itself keeps its value, and the closed form leaves it out."""
    rnn = nn.RNN(2, 3, nonlinearity="relu", batch_first=True, dtype=torch.float64)
    model = nn.Sequential()
    model.rnn, model.out = rnn, nn.Linear(3, 2, dtype=torch.float64)
    model.forward = lambda x: model.out(rnn(x)[0])
    with torch.no_grad():
        rnn.weight_hh_l0[1, 1] = 7.0
    others = [0, 2]
    into = torch.cat([rnn.weight_ih_l0[1], rnn.weight_hh_l0[1, others], rnn.bias_ih_l0[1:2], rnn.bias_hh_l0[1:2]])
    out = torch.cat([rnn.weight_hh_l0[others, 1], model.out.weight[:, 1]])
    expected = float((out.square().sum() / into.square().sum()).detach() ** 0.25)
    graph = balance.graph(model, torch.zeros(2, 4, 2, dtype=torch.float64))
    layer = next(units.name for units in graph.units if units.status == "scaled")
    assert balance_unit_(graph, layer, 1) == pytest.approx(expected, rel=1e-13)
    assert rnn.weight_hh_l0[1, 1].item() == 7.0


@pytest.mark.parametrize(("p", "c"), [(2.0, 2.0), (1.0, 0.5), (0.7, 3.0), (3.0, 1.0), (2.0, 0.25)])
def test_a_unit_of_degree_c(p: float, c: float) -> None:
    """E.6 and E.7: lam = (c B / A)^(1 / (p (c + 1))), then IN = c OUT, and the least value of the cost."""
    into, out = weights(1, 7), weights(2, 5)
    a, b = float(into.abs().pow(p).sum()), float(out.abs().pow(p).sum())
    scale = float(optimal_scale(into, out, Lp(p), degree=c))
    assert scale == pytest.approx((c * b / a) ** (1 / (p * (c + 1))), rel=1e-13)
    new_in, new_out = a * scale**p, b * scale ** (-p * c)
    assert new_in == pytest.approx(c * new_out, rel=1e-12)
    least = a ** (c / (c + 1)) * b ** (1 / (c + 1)) * (c ** (1 / (c + 1)) + c ** (-c / (c + 1)))
    assert new_in + new_out == pytest.approx(least, rel=1e-12)


def test_the_elastic_net_has_its_polynomials_root() -> None:
    """2 a A2 x^4 + b A1 x^3 - b B1 x - 2 a B2 = 0 has one positive root, for a w^2 + b |w|."""
    into, out, a, b = weights(3, 40, 6), 3 * weights(4, 40, 8), 0.7, 1.3
    found = optimal_scale(into, out, Mixture([(a, 2.0), (b, 1.0)]))
    assert found.shape == (40,)
    for k in range(40):
        a2, a1 = float(into[k].square().sum()), float(into[k].abs().sum())
        b2, b1 = float(out[k].square().sum()), float(out[k].abs().sum())
        roots = np.roots([2 * a * a2, b * a1, 0.0, -b * b1, -2 * a * b2])
        (positive,) = [r.real for r in roots if abs(r.imag) < 1e-9 and r.real > 0]
        assert float(found[k]) == pytest.approx(positive, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(0.3, 4.0)), min_size=1, max_size=4),
    shift=st.floats(-12.0, 12.0),
    degree=st.floats(0.2, 4.0),
    seed=st.integers(0, 999),
)
def test_at_the_best_scale_of_a_mixture_the_slope_is_zero(parts, shift: float, degree: float, seed: int) -> None:
    """sum_IN v g'(v) = c sum_OUT v g'(v) in the new weights v (Eq. 3.1 and D.4), however far the start."""
    into, out = weights(seed, 3), math.exp(shift) * weights(seed + 1, 4)
    scale = float(optimal_scale(into, out, Mixture(parts), degree=degree))
    v, w = (into * scale).abs(), (out / scale**degree).abs()
    rising = sum(a * p * float(v.pow(p).sum()) for a, p in parts)
    falling = degree * sum(a * p * float(w.pow(p).sum()) for a, p in parts)
    assert rising == pytest.approx(falling, rel=1e-9)


def test_without_cost_on_one_side_no_scale_is_the_best() -> None:
    assert float(optimal_scale(torch.zeros(3), torch.ones(2))) == 1.0
    assert float(optimal_scale(torch.ones(3), torch.zeros(2), Mixture([(1, 2), (1, 1)]))) == 1.0


@pytest.mark.parametrize("degree", [0.0, -1.0, math.inf])
def test_a_degree_is_above_zero(degree: float) -> None:
    with pytest.raises(InputError, match="degree of a unit must be finite and above 0"):
        optimal_scale(torch.ones(3), torch.ones(2), degree=degree)


def test_weights_must_be_finite() -> None:
    with pytest.raises(InputError, match="the outgoing weights must be finite"):
        optimal_scale(torch.ones(3), torch.tensor([1.0, math.nan]))
