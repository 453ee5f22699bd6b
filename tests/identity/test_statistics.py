"""Statistics against closed forms that can be done by hand.

A failure would put a wrong interval or p value beside every number that the reports print.
"""

import itertools
import math

import numpy as np
import pytest

from equipoise.errors import InputError
from equipoise.measure.statistics import (
    benjamini_hochberg,
    bootstrap,
    effect_size,
    estimate,
    paired_difference,
)


def test_students_interval_with_one_degree_of_freedom() -> None:
    # With one degree of freedom Student's law is Cauchy's: the 97.5 % quantile is tan(0.475 pi).
    got = estimate([1.0, 3.0])
    half = math.tan(0.475 * math.pi) * math.sqrt(2) / math.sqrt(2)
    assert (got.mean, got.n) == (2.0, 2)
    assert got.sd == pytest.approx(math.sqrt(2), rel=1e-14)
    assert (got.low, got.high) == pytest.approx((2 - half, 2 + half), rel=1e-10)
    assert got.half == pytest.approx(half, rel=1e-10)


def test_students_interval_with_two_degrees_of_freedom_and_a_level() -> None:
    # With two degrees of freedom: t(p) = (2p - 1) sqrt(2 / (4 p (1 - p))); sd of 1, 2, 3 is 1.
    p = 0.9
    got = estimate([1.0, 2.0, 3.0], level=0.8)
    assert got.half == pytest.approx((2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p))) / math.sqrt(3), rel=1e-10)


def test_one_value_has_no_interval() -> None:
    got = estimate([0.7])
    assert got.mean == 0.7
    assert got.n == 1
    assert all(math.isnan(v) for v in (got.sd, got.low, got.high, got.half))
    assert math.isnan(bootstrap([0.7]).low)


def test_a_diverged_run_does_not_vanish_from_a_mean() -> None:
    assert math.isnan(estimate([0.5, math.nan]).mean)
    assert math.isnan(estimate([0.5, math.inf]).high)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert (estimate([2.0, 2.0, 2.0]).low, estimate([2.0, 2.0, 2.0]).high) == (2.0, 2.0)
    assert bootstrap([2.0, 2.0]).half == 0.0


def test_paired_t_with_one_degree_of_freedom() -> None:
    # d = (1, 3): t = 2 / (sqrt(2) / sqrt(2)) = 2, and Cauchy's two-sided tail is 1 - 2 atan(t) / pi.
    got = paired_difference([2.0, 5.0], [1.0, 2.0])
    assert (got.mean, got.n, got.test) == (2.0, 2, "t")
    assert got.p == pytest.approx(1 - 2 * math.atan(2) / math.pi, rel=1e-12)
    assert got.low < 0 < got.high


def test_paired_differences_ignore_what_both_share() -> None:
    seeds = np.array([10.0, -3.0, 5.0, 40.0])
    got = paired_difference(seeds + np.array([1.0, 1.1, 0.9, 1.0]), seeds)
    assert got.p < 1e-3
    assert effect_size(seeds + 1.0, seeds) < 0.1


def test_permutation_is_the_share_of_sign_flips() -> None:
    d = [0.3, 0.1, -0.2, 0.5, 0.2]
    flips = itertools.product((-1, 1), repeat=5)
    means = [abs(sum(s * v for s, v in zip(signs, d, strict=True))) for signs in flips]
    share = sum(m >= abs(sum(d)) - 1e-12 for m in means) / 32
    assert paired_difference(d, [0.0] * 5, test="permutation").p == share
    # All of one sign: only the flips "all" and "none" reach as far.
    assert paired_difference([1.0, 2.0, 3.0], [0.0] * 3, test="permutation").p == 2 / 8
    assert paired_difference([1.0], [0.0], test="permutation").p == 1.0


def test_permutation_by_draws_agrees_with_the_normal_limit_and_is_never_zero() -> None:
    # n = 400 with mean(d) = z sqrt(sum d^2) / n: p tends to 2 (1 - Phi(z)).
    d = np.where(np.arange(400) < 220, 1.0, -1.0)
    z = d.sum() / math.sqrt(400)
    got = paired_difference(d, np.zeros(400), test="permutation")
    # With the continuity correction of a sum that moves in steps of two.
    assert got.p == pytest.approx(math.erfc((z - 1 / 20) / math.sqrt(2)), abs=0.01)
    assert got == paired_difference(d, np.zeros(400), test="permutation")
    assert paired_difference(np.ones(400), np.zeros(400), test="permutation").p == 1 / 10_000


def test_hedges_g_by_hand() -> None:
    # a = (2, 4), b = (0, 2): difference 2, pooled sd sqrt(2), m = 2, J(2) = Gamma(1) / Gamma(1/2).
    assert effect_size([2.0, 4.0], [0.0, 2.0]) == pytest.approx(math.sqrt(2) / math.sqrt(math.pi), rel=1e-12)
    assert effect_size([0.0, 2.0], [2.0, 4.0]) == pytest.approx(-math.sqrt(2) / math.sqrt(math.pi), rel=1e-12)
    assert math.isnan(effect_size([1.0], [2.0]))
    assert math.isnan(effect_size([1.0, 1.0], [2.0, 2.0]))


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5 of m = 4: 0.04, 0.04, 0.04, 0.5.
    assert benjamini_hochberg([0.5, 0.03, 0.01, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04], rel=1e-14)
    assert benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])
    assert benjamini_hochberg([0.2]) == pytest.approx([0.2])


@pytest.mark.parametrize(
    "call",
    [
        lambda: estimate([]),
        lambda: estimate([[1.0, 2.0]]),  # pyright: ignore
        lambda: estimate([1.0, 2.0], level=95),
        lambda: bootstrap([1.0, math.nan]),
        lambda: paired_difference([1.0, 2.0], [1.0]),
        lambda: paired_difference([1.0], [1.0], test="wilcoxon"),  # pyright: ignore
        lambda: effect_size([1.0, math.inf], [1.0]),
        lambda: benjamini_hochberg([0.1, 1.2]),
    ],
)
def test_bad_input_is_refused(call) -> None:
    with pytest.raises(InputError):
        call()
