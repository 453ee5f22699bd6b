"""The slowness fit: exact on curves that obey the equation, a least-squares solution on all others.

A failure here means that rules are ranked by a speed of learning that is not the papers' number.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise import measure


def plateau(s: float, maximum: float, epochs: int = 59) -> list[float]:
    return [maximum * x / (s + x) for x in range(1, epochs + 1)]


@pytest.mark.parametrize("s", [0.026, 0.336, 0.785, 4.243, 300.0])
@pytest.mark.parametrize("maximum", [0.2, 98.6])
def test_a_curve_that_obeys_the_equation_gives_its_slowness_back(s: float, maximum: float) -> None:
    found = measure.slowness(plateau(s, maximum), maximum / 1000, free_maximum=True)
    assert (found.slowness, found.maximum) == pytest.approx((s, maximum), rel=1e-6)
    assert found.fitted[1:] == pytest.approx(plateau(s, maximum), rel=1e-9)
    assert found.curve([found.slowness]) == pytest.approx([maximum / 2], rel=1e-6)  # epochs to half the maximum


@pytest.mark.parametrize("s", [0.05, 0.785, 4.0])
def test_with_the_maximum_fixed_a_longer_curve_comes_closer_from_below(s: float) -> None:
    """The largest value seen is A n / (s + n), below A; what that takes from s vanishes with the length n."""
    found = [measure.slowness(plateau(s, 50.0, n), 1.0, epochs=None) for n in (59, 400, 20_000)]
    gaps = [s - one.slowness for one in found]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.02 * s
    assert found[0].maximum == plateau(s, 50.0)[-1]


noisy = st.lists(st.floats(0.2, 1.0), min_size=3, max_size=70)


@given(noisy)
def test_no_other_slowness_fits_better(curve: list[float]) -> None:
    found = measure.slowness(curve, 0.1)
    y = np.array(curve[:59])
    x = np.arange(1, len(y) + 1)
    assert found.maximum == y.max()

    def cost(s: float) -> float:
        return float(((y - y.max() * x / (s + x)) ** 2).sum())

    least = cost(found.slowness)
    others = [*np.linspace(0, 100, 500), *np.logspace(-5, 3, 500)]
    others += [found.slowness * (1 + d) for d in (-1e-3, 1e-3, -0.1, 0.1)]
    assert all(cost(s) >= least - 1e-12 for s in others)
    squares = least + (0.1 - 0) ** 2
    assert found.error == pytest.approx(math.sqrt(squares / (len(y) + 1)))


@given(noisy)
def test_the_unit_of_accuracy_and_the_point_at_zero_do_not_matter(curve: list[float]) -> None:
    found = measure.slowness(curve, 0.1)
    percent = measure.slowness([100 * y for y in curve], 10)
    assert percent.slowness == pytest.approx(found.slowness, rel=1e-9, abs=1e-12)
    assert percent.maximum == pytest.approx(100 * found.maximum)
    assert measure.slowness(curve, 0.0).slowness == found.slowness


def test_only_the_first_epochs_count_and_chance_comes_first() -> None:
    curve = plateau(0.8, 50.0)
    decayed = [*curve, *(99.0 for _ in range(41))]
    assert measure.slowness(decayed, 10.0) == measure.slowness(curve, 10.0)
    assert measure.slowness(curve, 10.0).data == (10.0, *curve)
    assert measure.slowness(curve, 10.0).fitted[0] == 0
    assert measure.slowness(decayed, 10.0, epochs=None).maximum == 99.0
    assert measure.slowness(decayed, 10.0, epochs=5).data == (10.0, *curve[:5])


def test_a_curve_that_is_flat_from_the_start_has_slowness_zero() -> None:
    for free in (False, True):
        found = measure.slowness([0.9] * 10, 0.1, free_maximum=free)
        assert (found.slowness, found.maximum) == (0, pytest.approx(0.9))
    falling = measure.slowness([0.9, 0.8, 0.7, 0.6], 0.1, free_maximum=True)
    assert falling.slowness == 0
    assert falling.maximum == pytest.approx(0.75)
