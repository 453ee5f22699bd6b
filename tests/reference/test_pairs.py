"""Tests of pairs against scipy and against counting by hand: a failure here hides a p value that is not one, equality
that was only not refuted, or a run that diverged and vanished from the comparison.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import InputError
from equipoise.measure.pairs import compare, equivalence, holm, mann_whitney, wilcoxon

reference: Any = scipy.stats
small = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(small)
def test_the_signed_rank_distribution_is_that_of_all_signs(pairs: list[tuple[int, int]]) -> None:
    """Every one of the 2^n sign patterns, ties and zeros as they come."""
    a, b = np.array(pairs, dtype=float).T
    d = (a - b)[a != b]
    found = wilcoxon(a, b)
    if not len(d):
        assert (found.p, found.effect) == (1.0, 0.0)
        return
    ranks = reference.rankdata(np.abs(d))
    seen = ranks[d > 0].sum()
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product([0, 1], repeat=len(d))])
    p = 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean())
    assert found.statistic == pytest.approx(seen)
    assert found.p == pytest.approx(min(1.0, p))
    assert found.effect == pytest.approx((seen - ranks[d < 0].sum()) / ranks.sum())


@pytest.mark.parametrize("n", [5, 12, 30, 50])
def test_wilcoxon_is_scipys_exact_one(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(size=n)
    assert wilcoxon(a, b).p == pytest.approx(reference.wilcoxon(a, b, method="exact").pvalue, rel=1e-9)


def test_wilcoxon_goes_on_where_counting_ends() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1, 300), rng.normal(size=300)
    theirs = reference.wilcoxon(a, b, method="asymptotic", correction=True).pvalue
    assert wilcoxon(a, b).p == pytest.approx(theirs, rel=1e-2)


def test_mann_whitney_is_scipys_and_its_effect_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, 30), rng.normal(size=25)
    found = mann_whitney(a, b)
    assert found.p == pytest.approx(reference.mannwhitneyu(a, b).pvalue)
    assert found.effect == pytest.approx(np.sign(a[:, None] - b).mean())
    assert mann_whitney([-math.inf, 1.0], [2.0, 3.0]).effect == -1


def test_equivalence_is_the_ninety_percent_interval_inside_the_margin() -> None:
    rng = np.random.default_rng(2)
    seen = set()
    for centre in np.linspace(-0.6, 0.6, 25):
        a = rng.normal(centre, 0.4, 12)
        b = np.zeros(12)
        low, high = reference.t.interval(0.9, 11, a.mean(), reference.sem(a))
        inside = bool(low > -0.5 and high < 0.5)
        assert (equivalence(a, b, 0.5) < 0.05) == inside
        seen.add(inside)
        one = reference.ttest_1samp(a, -0.5, alternative="greater").pvalue
        other = reference.ttest_1samp(a, 0.5, alternative="less").pvalue
        assert equivalence(a, b, 0.5) == pytest.approx(max(one, other))
    assert seen == {True, False}


def test_absence_of_a_difference_is_no_equality() -> None:
    a, b = [80.0, 84.0, 78.0, 86.0], [82.0, 81.0, 80.0, 84.0]
    found = compare(a, b, margin=0.5, floor=10.0)
    assert found.wilcoxon.p > 0.5
    assert found.equivalence > 0.05
    assert found.verdict() == "open"
    assert compare(a, [v + 0.01 for v in a[:3]] + [a[3]], margin=0.5, floor=10.0).verdict() == "equal"


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06 (kept rising), 0.5.
    assert holm([0.03, 0.5, 0.01, 0.02]).tolist() == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_the_plain_p_and_bonferronis(p: list[float]) -> None:
    found = holm(p)
    assert (found >= np.array(p)).all()
    assert (found <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()


def test_a_run_that_diverged_is_the_worst_and_never_dropped() -> None:
    good = [80.0, 81.0, 82.0, 83.0, 84.0, 85.0]
    lost = [79.0, None, 81.0, math.nan, 83.0, 84.0]
    found = compare(lost, good, margin=0.5, floor=10.0)
    assert found.divergent == (2, 0)
    assert found.difference.n == 6
    assert found.difference.mean == pytest.approx((4 * -1 + (10 - 81) + (10 - 83)) / 6)
    assert found.wilcoxon.p == pytest.approx(2 / 2**6)
    assert found.wilcoxon.effect == -1
    assert found.verdict() == "lower"
    assert found.verdict(0.2) == "open", "after Holm's correction"
    other = compare(good, lost, margin=0.5, floor=10.0)
    assert other.divergent == (0, 2)
    assert other.verdict() == "higher"
    both = compare([None, 80.0], [None, 80.0], margin=0.5, floor=10.0)
    assert both.wilcoxon.p == 1
    assert both.divergent == (1, 1)


def test_the_interval_of_the_difference_is_that_of_pairs() -> None:
    """Widths that vary a lot between draws cancel in pairs: the interval is that of the differences."""
    rng = np.random.default_rng(3)
    level = rng.normal(80, 5, 20)
    a, b = level + rng.normal(1, 0.2, 20), level
    found = compare(list(a), list(b), margin=0.5, floor=10.0)
    assert found.difference.low < (a - b).mean() < found.difference.high
    assert found.difference.half < 0.2
    assert found.verdict() == "higher"
    assert found.mann_whitney.p > 0.2


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilcoxon([1.0], [1.0, 2.0]),
        lambda: wilcoxon([], []),
        lambda: wilcoxon([math.nan], [1.0]),
        lambda: mann_whitney([], [1.0]),
        lambda: equivalence([1.0, 2.0], [1.0, 2.0], 0.0),
        lambda: equivalence([1.0, math.inf], [1.0, 2.0], 0.5),
        lambda: holm([1.5]),
        lambda: holm([]),
        lambda: compare([1.0], [], margin=0.5, floor=0.0),
        lambda: compare([], [], margin=0.5, floor=0.0),
    ],
)
def test_bad_input_is_one_line(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_run_that_diverged_is_worse_than_one_below_chance() -> None:
    found = compare([None, None, None], [9.0, 9.5, 8.0], margin=0.5, floor=10.0)
    assert found.wilcoxon.effect == found.mann_whitney.effect == -1
    assert found.difference.mean == pytest.approx(3.5 / 3)
    assert found.median == pytest.approx(1.0)
