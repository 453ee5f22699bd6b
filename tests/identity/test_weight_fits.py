"""Fits of weights: against autograd, closed forms, and what a change of units must do.

A failure here means that weights are said to follow a law that they do not, or by a margin that is not theirs.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.measure import measures
from equipoise.measure.student_t import Point, climb, likelihood
from equipoise.measure.weights import fit_half_normal, weight_statistics
from nets import vector_batch

CENTRES = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000


def normal_sample() -> Tensor:
    """The quantiles of N(0, 1) in equal steps: a sample without chance."""
    return torch.special.ndtri(CENTRES)


def cauchy_sample() -> Tensor:
    """The same for Student's t with one degree of freedom."""
    return torch.tan(math.pi * (CENTRES - 0.5))


def two_sample() -> Tensor:
    """The same for Student's t with two degrees of freedom, whose quantile is (2p - 1) / sqrt(2 p (1 - p))."""
    return (2 * CENTRES - 1) / (2 * CENTRES * (1 - CENTRES)).sqrt()


def student_log_density(x: Tensor, at: Tensor) -> Tensor:
    """The definition, for autograd; at = (m, ln s, ln nu)."""
    nu, z = at[2].exp(), (x - at[0]) / at[1].exp()
    front = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - torch.log(math.pi * nu) / 2 - at[1]
    return front - (nu + 1) / 2 * torch.log1p(z * z / nu)


@pytest.mark.parametrize("at", [Point(0.2, -0.4, 0.9), Point(-1.0, 0.3, -1.5), Point(0.0, 0.1, 5.0)])
def test_the_likelihoods_gradient_and_hessian_are_autograds(at: Point) -> None:
    x = torch.randn(70_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # two pieces

    def mean(point: Tensor) -> Tensor:
        return student_log_density(x, point).mean()

    point = torch.tensor(at, dtype=torch.float64)
    value, gradient, hessian = likelihood(x, at)
    assert value == pytest.approx(float(mean(point)), rel=1e-12)
    torch.testing.assert_close(gradient, torch.func.grad(mean)(point), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(hessian, torch.func.jacrev(torch.func.grad(mean))(point), rtol=1e-9, atol=1e-11)


def test_likelihoods_are_the_closed_forms() -> None:
    w = 0.3 * normal_sample() + 0.1
    std, sizes = float(w.std(correction=0)), w.abs()
    root = math.log(2 * math.pi) / 2
    assert measure.fit_normal(w).loglik == pytest.approx(-math.log(std) - root - 0.5, rel=1e-12)
    logs = sizes.log()
    wanted = -float(logs.mean()) - math.log(float(logs.std(correction=0))) - root - 0.5
    assert measure.fit_lognormal(w).loglik == pytest.approx(wanted, rel=1e-12)
    scale = math.sqrt(float(w.square().mean()))
    assert fit_half_normal(w).loglik == pytest.approx(math.log(2) - math.log(scale) - root - 0.5, rel=1e-12)
    t = measure.fit_student_t(two_sample())
    at = torch.tensor([t.parameters["location"], math.log(t.parameters["scale"]), math.log(t.parameters["nu"])])
    assert t.loglik == pytest.approx(float(student_log_density(two_sample(), at.double()).mean()), rel=1e-9)
    assert t.aic == pytest.approx(6 - 2 * 20_000 * t.loglik)


@pytest.mark.parametrize(("sample", "nu"), [(cauchy_sample(), 1.0), (two_sample(), 2.0)])
def test_student_t_finds_the_law_that_the_values_have(sample: Tensor, nu: float) -> None:
    fit = measure.fit_student_t(0.05 * sample + 0.02)
    assert fit.parameters == pytest.approx({"location": 0.02, "scale": 0.05, "nu": nu}, rel=2e-3)
    found = measure.compare_fits(measure.fit_normal(0.05 * sample + 0.02), fit)
    assert found.winner == "student_t"
    assert found.gain > 0.2


def test_the_fit_is_a_maximum() -> None:
    x = two_sample()[::7] + 0.3 * normal_sample()[::7]
    p = measure.fit_student_t(x).parameters
    _, gradient, hessian = likelihood(x, Point(p["location"], math.log(p["scale"]), math.log(p["nu"])))
    assert float(gradient.abs().max()) < 1e-6
    assert float(torch.linalg.eigvalsh(hessian).max()) < 0


@pytest.mark.parametrize("start", [Point(0.0, -3.0, -1.0), Point(4.0, 2.0, 3.0), Point(-1.0, 0.0, 8.0)])
def test_the_climb_reaches_the_summit_from_far_away(start: Point) -> None:
    _, at = climb(two_sample(), start)
    assert [at.location, at.log_scale, math.exp(at.log_freedom)] == pytest.approx([0, 0, 2], abs=5e-3)


@pytest.mark.parametrize(("factor", "shift"), [(1e-9, 0.0), (-40.0, 7.0), (1e12, -1e12)])
def test_a_change_of_units_changes_location_and_scale_alone(factor: float, shift: float) -> None:
    x = two_sample()[::20]
    plain, moved = measure.fit_student_t(x), measure.fit_student_t(factor * x + shift)
    assert moved.parameters["nu"] == pytest.approx(plain.parameters["nu"], rel=1e-6)
    assert moved.parameters["scale"] == pytest.approx(abs(factor) * plain.parameters["scale"], rel=1e-6)
    wanted = factor * plain.parameters["location"] + shift
    assert moved.parameters["location"] == pytest.approx(wanted, abs=1e-6 * abs(factor))
    assert moved.loglik == pytest.approx(plain.loglik - math.log(abs(factor)), rel=1e-9)


@pytest.mark.parametrize("sample", [normal_sample(), CENTRES, torch.cat([normal_sample() - 9, normal_sample() + 9])])
def test_without_heavy_tails_the_t_is_the_normal_itself(sample: Tensor) -> None:
    """Normal quantiles (cut off at the ends), a uniform law, two heaps: excess kurtosis is negative in all."""
    assert measure.excess_kurtosis(sample) < 0
    normal, t = measure.fit_normal(sample), measure.fit_student_t(sample)
    assert t.parameters["nu"] == math.inf
    assert list(t.parameters.values())[:2] == list(normal.parameters.values())
    assert t.loglik == normal.loglik
    assert t.density([-0.5, 0.7]) == normal.density([-0.5, 0.7])
    found = measure.compare_fits(t, normal)
    assert found.winner == "normal"
    assert found.gain == pytest.approx(1 / len(sample))  # one parameter less, and AIC counts 2 for it


def test_a_narrow_heap_between_light_tails_is_found_from_the_second_start() -> None:
    """Excess kurtosis is below 0, so the way from the normal leads back to it; the summit lies at small nu."""
    heap = 0.01 * normal_sample()
    w = torch.cat([heap, heap[::3] - 1, heap[::3] + 1])
    assert measure.excess_kurtosis(w) < 0
    t = measure.fit_student_t(w)
    assert t.parameters["nu"] < 2
    assert t.loglik > measure.fit_normal(w).loglik + 0.1


@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 3.0]))
def test_the_t_is_never_less_likely_than_the_normal_that_it_holds(seed: int, power: float) -> None:
    x = torch.randn(60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = x.sign() * x.abs() ** power
    found = weight_statistics(w)
    assert found["t_gain"] >= 0
    assert found["t_gain"] == found["t_loglik"] - found["normal_loglik"]
    assert (found["t_gain"] == 0) == (found["nu"] == math.inf)


def test_the_size_of_normal_weights_is_half_normal_by_the_known_margin() -> None:
    """For z ~ N(0, 1): mean ln|z| = -(g + ln 2)/2 with Euler's g, var ln|z| = pi^2/8; so both likelihoods are known."""
    w = 0.2 * normal_sample()
    found = measure.compare_fits(measure.fit_lognormal(w), fit_half_normal(w))
    mean = -(0.5772156649015329 + math.log(2)) / 2
    log = -mean - math.log(math.pi / math.sqrt(8)) - math.log(2 * math.pi) / 2 - 0.5
    half = math.log(2 / math.pi) / 2 - 0.5
    assert found.winner == "half_normal"
    assert found.gain == pytest.approx(half - log, rel=5e-3)
    assert found.loglik["lognormal"] == pytest.approx(log - math.log(0.2), rel=5e-3)
    heavy = normal_sample().exp() * torch.tensor([1.0, -1.0]).repeat(10_000)
    assert measure.compare_fits(measure.fit_lognormal(heavy), fit_half_normal(heavy)).winner == "lognormal"


def test_zeros_have_no_logarithm_and_are_left_out_of_both_laws_of_the_size() -> None:
    w = two_sample()[::10]
    with_zeros = torch.cat([torch.zeros(500, dtype=torch.float64), w])
    for fit in (measure.fit_lognormal, fit_half_normal):
        assert fit(with_zeros) == fit(w)
        assert fit(w).count == 2000
    assert measure.positive_share(with_zeros) == pytest.approx(1000 / 2500)


@pytest.mark.parametrize("fit", [measure.fit_normal, measure.fit_student_t, measure.fit_lognormal, fit_half_normal])
def test_a_density_holds_one_unit_of_probability(fit) -> None:
    found = fit(two_sample()[::40].float())
    low = 0.0 if found.of == "|w|" else -500.0
    x = torch.linspace(low, 500, 500_001, dtype=torch.float64)
    assert float(torch.trapezoid(torch.tensor(found.density(x.tolist())), x)) == pytest.approx(1, abs=2e-3)
    assert found.of == "w" or found.density([-1.0]) == [0.0]


def test_the_measure_gives_each_layers_statistics_and_not_a_number_for_what_cannot_be_fitted() -> None:
    x, y = vector_batch()
    model = nn.Sequential(nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 4))
    with torch.no_grad():
        model[2].weight.fill_(0.5)
    rule = rules.make("bp", model, example=x)
    assert measures["weights"].when == "end"
    found = measures["weights"](rule, x, y)
    own = weight_statistics(model[0].weight)
    assert {key: value for key, value in found.items() if key.startswith("weights/0/")} == {
        f"weights/0/{name}": value for name, value in own.items()
    }
    assert own["nu"] == measure.fit_student_t(model[0].weight).parameters["nu"]
    assert own["lognormal_gain"] == own["lognormal_loglik"] - own["half_normal_loglik"]
    constant = {key.removeprefix("weights/2/"): v for key, v in found.items() if key.startswith("weights/2/")}
    assert constant.keys() == own.keys()
    assert (constant["mean"], constant["std"], constant["positive"]) == (0.5, 0.0, 1.0)
    assert all(math.isnan(v) for name, v in constant.items() if name not in ("mean", "std", "positive"))
