"""More errata of the synaptic balance paper: conditions that are missing, signs and definitions as printed.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equipoise import balance
from equipoise.errors import InputError
from equipoise.functional import bipu


def chain(*widths: int, seed: int = 0) -> nn.Sequential:
    """A network of linear layers with biases and ReLU between them, in float64."""
    torch.manual_seed(seed)
    parts = [part for n, m in pairwise(widths) for part in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*parts[:-1]).double()


def cost(model: nn.Module) -> float:
    """The squared norm of all parameters."""
    return sum(float(p.detach().square().sum()) for p in model.parameters())


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0])
def test_b11_powers_of_negative_numbers(power: float) -> None:
    below = -2.5
    printed = below * complex(-1.0) ** power  # D x^c with D = f(-1), at x = -1, where it should give D again
    assert (abs(printed - below) < 1e-12) == (power == 2.0)
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    found = bipu(x, power, 2.0, below)
    assert found[1].item() == below
    torch.testing.assert_close(bipu(7 * x, power, 2.0, below), 7**power * found)


def test_b12_normalised_at_one_not_everywhere() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for factor in (1.0, 3.0):
        f = lambda t, factor=factor: factor * t.clamp(min=0) ** 2  # noqa: E731
        scale = torch.tensor(1.7, dtype=torch.float64)
        holds = torch.allclose(f(scale * x), f(scale) * f(x))  # eq. E.2
        assert holds == (f(torch.ones(1)).item() == 1)
        assert f(torch.zeros(1)).item() == 0  # as the line before has it, so f(x) = 1 for every x cannot be


def test_b13_additive_but_not_linear() -> None:
    # On numbers a + b sqrt(2) with a and b rational: f gives a. A basis over the rationals extends it to all of R.
    numbers = [(Fraction(a, 3), Fraction(b, 2)) for a in range(-3, 4) for b in range(-3, 4)]
    f = lambda number: number[0]  # noqa: E731
    value = lambda number: float(number[0]) + float(number[1]) * math.sqrt(2)  # noqa: E731
    assert all(f((x[0] + y[0], x[1] + y[1])) == f(x) + f(y) for x in numbers for y in numbers)
    one, root = (Fraction(1), Fraction(0)), (Fraction(0), Fraction(1))
    assert (f(one), f(root)) == (1, 0)
    assert value(root) * f(one) != f(root)
    # Nor is it continuous, which the proof takes for granted: numbers that go to 0 have values that go to infinity.
    p, q, gaps = 1, 1, []
    for _ in range(15):
        p, q = p + 2 * q, p + q
        gaps.append(abs(value((Fraction(p), Fraction(-q)))))
    assert gaps[-1] < 1e-5 < 1e5 < f((Fraction(p), Fraction(-q)))
    assert all(b < a for a, b in pairwise(gaps))


def test_b14_powers_that_are_not_continuous_at_zero() -> None:
    values = np.array([-3.0, -0.5, 0.0, 0.25, 2.0])
    even = {c: (lambda x, c=c: np.where(x == 0, 0.0, np.abs(np.where(x == 0, 1, x)) ** c)) for c in (0.0, -1.0, 2.0)}
    odd = {c: (lambda x, f=f: np.sign(x) * f(x)) for c, f in even.items()}
    near = np.array([1e-12])
    for c in even:
        for f in (even[c], odd[c]):
            assert f(np.outer(values, values)) == pytest.approx(np.outer(f(values), f(values)))
            assert bool(abs(f(near) - f(np.zeros(1)))[0] < 1e-6) == (c > 0)


def test_b15_which_scale_and_which_matrix() -> None:
    scales = [1.0, 2.0, 0.5, 3.0, 1.0]  # Lambda_0 to Lambda_N, the outer two being visible
    right = [b / a for a, b in pairwise(scales)]
    assert math.prod(right) == pytest.approx(1)
    last_step = 1.0  # lambda_i, the factor of a single balancing, which tends to 1
    assert math.prod(last_step / a for a in scales[:-1]) != pytest.approx(1)


def test_b16_the_biases_of_the_hidden_units_are_negative() -> None:
    n = 16
    wanted = lambda x: np.abs(x - 0.5)  # noqa: E731
    x, knots = np.linspace(0, 1, 1001), np.arange(n) / n
    slopes = np.diff(wanted(np.arange(n + 1) / n)) * n
    beta = np.diff(slopes, prepend=0.0)
    network = lambda biases: wanted(0.0) + np.maximum(x[:, None] + biases, 0) @ beta  # noqa: E731
    assert np.abs(network(-knots) - wanted(x)).max() < 1e-12
    # With plus signs every unit is active on all of [0, 1], so the network is a line there, whatever its weights.
    assert np.abs(np.diff(network(knots), 2)).max() < 1e-12
    lines = np.column_stack([np.ones_like(x), x])
    best = lines @ np.linalg.lstsq(lines, wanted(x), rcond=None)[0]
    assert np.abs(best - wanted(x)).max() > 0.2


def one_unit(w: float, v: float, decay: float) -> tuple[Tensor, Tensor]:
    """Gradients by (w, v) of E = (v relu(w) - 2)^2, and of E + decay (w^2 + v^2)."""
    weights = torch.tensor([w, v], dtype=torch.float64, requires_grad=True)
    error = (weights[1] * weights[0].relu() - 2) ** 2
    (alone,) = torch.autograd.grad(error, weights, retain_graph=True)
    (whole,) = torch.autograd.grad(error + decay * weights.square().sum(), weights)
    return alone, whole


def test_b17_which_gradient_is_not_zero() -> None:
    alone, whole = one_unit(4.0, 0.5, 0.5)
    assert alone.norm() == 0  # perfectly trained on E, and far from balance
    assert whole.norm() > 1
    balanced = math.sqrt(2 - 0.5)
    alone, whole = one_unit(balanced, balanced, 0.5)
    assert whole.norm() < 1e-12 < 1 < alone.norm()  # in balance, with a gradient of E


def test_b18_steps_of_finite_size_leave_the_balance() -> None:
    model = chain(4, 6, 3)
    balance.balance_(model)
    into, out, bias = model[0].weight, model[2].weight, model[0].bias
    deficit = lambda: (into.square().sum(1) + bias.square() - out.square().sum(0)).detach()  # noqa: E731
    assert deficit().abs().max() < 1e-9
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    (model(x) - y).square().mean().backward()
    grown = into.grad.square().sum(1) + bias.grad.square() - out.grad.square().sum(0)
    before = deficit()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    torch.testing.assert_close(deficit(), before + 0.1**2 * grown, rtol=1e-10, atol=1e-14)
    assert deficit().abs().max() > 1e-4


class Recurrent(nn.Module):
    """ReLU units with recurrent weights ``back``, driven by ``into`` and read by ``out``, without biases."""

    def __init__(self, into: list[float], back: list[list[float]], out: list[float]) -> None:
        super().__init__()
        self.hidden = nn.RNN(1, len(into), nonlinearity="relu", bias=False, batch_first=True)
        self.readout = nn.Linear(len(into), 1, bias=False)
        weights = (torch.tensor(into)[:, None], torch.tensor(back), torch.tensor(out)[None])
        for parameter, value in zip(self.parameters(), weights, strict=True):
            parameter.data = value.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.hidden(x)[0])


def cycle(rounds: int, into: float) -> float:
    """The larger log-scale of a two-unit cycle, driven by ``into``, after balancing by eq. 3.3 in turn."""
    a = b = 0.0
    for _ in range(rounds):
        drive, forth, back, read = (
            into * math.exp(2 * a),
            math.exp(2 * (b - a)),
            math.exp(2 * (a - b)),
            math.exp(-2 * a),
        )
        a += math.log((forth + read) / (drive + back)) / 4
        forth, back = math.exp(2 * (b - a)), math.exp(2 * (a - b))
        b += math.log(back / forth) / 4
    return max(a, b)


def test_b19_weights_on_both_sides_are_not_enough() -> None:
    # Every unit has non-zero weights in and out, but nothing drives the cycle: its scales grow without end.
    grown = [cycle(rounds, 0.0) for rounds in (60, 120, 240, 480)]
    assert all(b > a + 0.3 for a, b in pairwise(grown))
    settled = [cycle(rounds, 0.1) for rounds in (240, 480)]
    assert settled[0] == pytest.approx(settled[1], abs=1e-9)
    model = Recurrent([0.0, 0.0, 3.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]], [1.0, 0.0, 1.0])
    x = torch.randn(2, 6, 1, dtype=torch.float64)
    before = model(x)
    found = balance.balance_(model, example=x)
    assert [(one.layer, one.units) for one in found.skipped] == [("hidden.l0", (0, 1))]
    torch.testing.assert_close(model(x), before)
    into, back, out = (p.detach() for p in model.parameters())
    assert torch.equal(back, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]).double())
    assert (into[2, 0].item(), out[0, 2].item()) == pytest.approx((math.sqrt(3), math.sqrt(3)))
    assert out[0, 0] == 1


def test_b20_two_definitions_as_printed() -> None:
    values = [-1.5, 0.0, 2.0]
    linear = lambda x: 3 * x  # noqa: E731
    constant = lambda x: 3.0  # noqa: E731
    # f(x + y) = f(x) = (f(y) asks for a constant; with a plus sign, for what the section is about.
    as_printed = lambda f: all(f(x + y) == f(x) == f(y) for x in values for y in values)  # noqa: E731
    meant = lambda f: all(f(x + y) == f(x) + f(y) for x in values for y in values)  # noqa: E731
    assert (as_printed(linear), as_printed(constant)) == (False, True)
    assert (meant(linear), meant(constant)) == (True, False)


def test_b21_a_scaling_that_helps_is_not_enough() -> None:
    a, b = 16.0, 1 / 16
    best = math.log(b / a) / 4
    norm = lambda log: a * math.exp(2 * log) + b * math.exp(-2 * log)  # noqa: E731
    log, norms = 0.0, []
    for k in range(60):
        norms.append(norm(log))
        log -= 0.3 / 2**k
    assert all(y < x for x, y in pairwise(norms[:40]))  # each step lowers the norm ...
    assert log == pytest.approx(-0.6)
    assert norm(log) > 2 * norm(best)  # ... and the limit is far from balance
    log = 0.0
    for _ in range(60):
        log += 0.3 * (best - log)
    assert norm(log) == pytest.approx(norm(best))
    models = [chain(3, 5, 4, 2) for _ in range(2)]
    balance.balance_(models[0])
    balance.balance_(models[1], method="stochastic", strength=0.3, seed=1)
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def test_b22_the_closed_form_knows_no_biases() -> None:
    model, printed, single = (chain(4, 6, 5, 3) for _ in range(3))
    layers = [printed[0], printed[2], printed[4]]
    a = np.array([float(layer.weight.detach().square().sum()) for layer in layers])
    scale = np.cumprod(np.sqrt(a.prod() ** (1 / 3) / a))
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.mul_(scale[k] / (scale[k - 1] if k else 1.0))
            layer.bias.mul_(scale[k])
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(printed(x), model(x))
    before = model(x)
    balance.balance_(model, method="tied")
    balance.balance_(single)
    torch.testing.assert_close(model(x), before)
    assert cost(single) < cost(model) < cost(printed) < cost(chain(4, 6, 5, 3))


def test_b23_a_loop_is_not_scaled() -> None:
    w, loop, v = 1.0, 3.0, 2.0
    norm = lambda s: (w * s) ** 2 + loop**2 + (v / s) ** 2  # noqa: E731
    printed, right = (((v**2 + extra) / (w**2 + extra)) ** (1 / 4) for extra in (loop**2, 0.0))
    assert norm(right) == pytest.approx(13)
    assert norm(right) < norm(printed) < norm(1.0)
    grid = np.exp(np.linspace(-2, 2, 40_001))
    assert grid[np.argmin(norm(grid))] == pytest.approx(right, rel=1e-3)
    model = Recurrent([w], [[loop]], [v])
    balance.balance_(model, example=torch.zeros(2, 3, 1, dtype=torch.float64))
    assert [p.item() for p in model.parameters()] == pytest.approx([w * right, loop, v / right])


def test_b24_degree_zero_leaves_the_value_at_zero_free() -> None:
    x = torch.tensor([-2.0, -0.3, 0.0, 0.1, 5.0], dtype=torch.float64)
    assert torch.equal(torch.sign(3.7 * x), 3.7**0 * torch.sign(x))  # f(s x) = s^0 f(x)
    assert torch.sign(x)[2] == 0 != 1 * x[2].item() ** 0  # while the printed C x^0 is C = 1 there
    with pytest.raises(InputError, match="c"):
        bipu(x, 0.0, 1.0, -1.0)


def test_what_is_right_in_the_paper_though_it_looks_odd() -> None:
    a, b = (torch.rand(5, generator=torch.Generator().manual_seed(s), dtype=torch.float64) + 0.1 for s in (1, 2))
    grid = torch.linspace(-1.5, 1.5, 300_001, dtype=torch.float64).exp()
    for p, c in ((2.0, 1.0), (0.5, 1.0), (3.0, 2.0), (1.0, 0.5)):
        into, out = a.pow(p).sum(), b.pow(p).sum()
        norm = lambda s, p=p, c=c, into=into, out=out: s**p * into + out / s ** (p * c)  # noqa: E731
        best = (c * out / into) ** (1 / (p * (c + 1)))  # eq. E.6, and eq. 3.3 for c = 1
        assert grid[norm(grid).argmin()].item() == pytest.approx(best.item(), rel=1e-4)
        torch.testing.assert_close(best**p * into, c * out / best ** (p * c))  # eq. E.7, and 3.5
        torch.testing.assert_close(balance.optimal_scale(a, b, balance.Lp(p), degree=c), best)
        if c == 1:
            slope = lambda w, p=p: p * w.pow(p - 1)  # noqa: E731
            # eq. 3.1: lambda^2 sum w g'(lambda w) = sum w g'(w / lambda)
            torch.testing.assert_close(best**2 * (a * slope(best * a)).sum(), (b * slope(b / best)).sum())
            torch.testing.assert_close(norm(1.0) - norm(best), (into.sqrt() - out.sqrt()) ** 2)  # eq. 3.4
    model = chain(4, 6, 3)
    balance.balance_(model, method="tied")
    into = model[0].weight.square().sum() + model[0].bias.square().sum()
    torch.testing.assert_close(into, model[2].weight.square().sum())  # eq. G.1
