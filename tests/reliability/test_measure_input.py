"""What measures cannot measure is refused in one line that says why, instead of a number that means nothing."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise import EquipoiseError, measure
from equipoise.measure.weights import fit_half_normal

FITS = [measure.fit_normal, measure.fit_student_t, measure.fit_lognormal, fit_half_normal, measure.excess_kurtosis]
GOOD = torch.randn(40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fit", FITS)
def test_weights_that_cannot_be_fitted(fit) -> None:
    broken = GOOD.clone()
    broken[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    for weights, reason in (
        (broken, "3 of 40 weights are not finite"),
        (GOOD[:9], "9 weights are too few for a fit; give 10 or more"),
        (torch.full((4, 5), 0.1), "all 20 values are 0.1: a constant"),
        (torch.zeros(20), "all 20 values are 0: a constant"),
        ([], "0 weights are too few"),
    ):
        with pytest.raises(EquipoiseError, match=reason) as caught:
            fit(weights)
        assert "\n" not in str(caught.value)


def test_weights_most_of_which_are_one_value_have_no_student_t() -> None:
    spiked = torch.cat([torch.zeros(60), GOOD])
    with pytest.raises(EquipoiseError, match="too many of the weights have one value"):
        measure.fit_student_t(spiked)
    with pytest.raises(EquipoiseError, match="all 20 values are 2"):
        measure.fit_lognormal(torch.tensor([2.0, -2.0]).repeat(10))
    with pytest.raises(EquipoiseError, match="4 weights are too few"):
        measure.fit_lognormal(torch.cat([torch.zeros(60), GOOD[:4]]))


def test_fits_that_cannot_be_compared() -> None:
    normal, t, log = measure.fit_normal(GOOD), measure.fit_student_t(GOOD), measure.fit_lognormal(GOOD)
    for fits, reason in (
        ((), "two or more fits of different laws; seen: none"),
        ((normal,), "seen: normal"),
        ((normal, normal), "seen: normal, normal"),
        ((normal, log), r"same weights can be compared; seen: normal of 40 w, lognormal of 40 \|w\|"),
        ((t, measure.fit_normal(GOOD[:30])), "student_t of 40 w, normal of 30 w"),
    ):
        with pytest.raises(EquipoiseError, match=reason):
            measure.compare_fits(*fits)


def test_a_share_needs_one_finite_weight() -> None:
    assert measure.positive_share([0.0]) == 0
    for weights in ([], [math.nan]):
        with pytest.raises(EquipoiseError):
            measure.positive_share(weights)


@pytest.mark.parametrize("free", [False, True])
def test_curves_without_a_slowness(free: bool) -> None:
    rising = [0.2, 0.3, 0.35]
    for curve, chance, options, reason in (
        ([], 0.1, {}, "a curve of 0 epochs is too short"),
        (rising[:2], 0.1, {}, "a curve of 2 epochs is too short"),
        (rising, 0.1, {"epochs": 2}, "epochs is 2; a curve needs 3"),
        ([*rising, math.nan], 0.1, {}, "finite and not negative"),
        ([*rising, -0.1], 0.1, {}, "not negative; seen -0.1 to 0.35"),
        ([rising, rising], 0.1, {}, r"here of shape \(2, 3\); average the runs first"),
        (rising, 10.0, {}, "reaches 0.35 and chance is 10: nothing was learned"),
        ([0.1, 0.1, 0.1], 0.1, {}, "nothing was learned"),
        (rising, math.nan, {}, "chance is nan"),
        (rising, -0.1, {}, "chance is -0.1"),
    ):
        with pytest.raises(EquipoiseError, match=reason):
            measure.slowness(curve, chance, free_maximum=free, **options)


def test_a_maximum_that_is_not_in_sight_is_not_made_up() -> None:
    with pytest.raises(EquipoiseError, match="has not begun to flatten"):
        measure.slowness([float(x) for x in range(1, 30)], 0.0, free_maximum=True)
    assert measure.slowness([float(x) for x in range(1, 30)], 0.0).maximum == 29
