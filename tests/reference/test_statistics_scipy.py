"""Statistics against SciPy's own, on random samples of many sizes.

A failure would mean that our intervals and p values are not the ones that their names promise.
"""

import numpy as np
import pytest
from scipy import stats

from equipoise.measure.statistics import (
    benjamini_hochberg,
    bootstrap,
    effect_size,
    estimate,
    paired_difference,
)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("level", [0.68, 0.95, 0.99])
def test_interval(n: int, level: float) -> None:
    x = np.random.default_rng(n).normal(3, 2, n)
    got = estimate(x, level=level)
    assert (got.low, got.high) == pytest.approx(
        stats.t.interval(level, n - 1, loc=x.mean(), scale=stats.sem(x)), rel=1e-12
    )


@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_paired_t(n: int) -> None:
    a, b = np.random.default_rng(n).normal(0.4, 1, (2, n))
    got, reference = paired_difference(a, b, level=0.9), stats.ttest_rel(a, b)
    assert got.p == pytest.approx(reference.pvalue, rel=1e-10)
    assert (got.low, got.high) == pytest.approx(tuple(reference.confidence_interval(0.9)), rel=1e-10)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_exact_permutation(n: int) -> None:
    a, b = np.random.default_rng(n).normal(0, 1, (2, n))
    reference = stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert paired_difference(a, b, test="permutation").p == pytest.approx(reference.pvalue, abs=1e-12)


@pytest.mark.parametrize("statistic", [np.mean, np.std])
@pytest.mark.parametrize("n", [12, 40])
def test_bootstrap_interval(statistic, n: int) -> None:
    x = np.random.default_rng(n).exponential(1, n)
    got = bootstrap(x, statistic=statistic, resamples=2000, seed=3)
    # The same generator and layout of draws as SciPy's: the intervals agree to rounding, not only on average.
    reference = stats.bootstrap((x,), statistic, n_resamples=2000, method="BCa", rng=np.random.default_rng(3))
    assert (got.low, got.high) == pytest.approx(tuple(reference.confidence_interval), rel=1e-9)
    assert got.sd == pytest.approx(reference.standard_error, rel=1e-9)


def test_hedges_g_is_the_corrected_t_statistic() -> None:
    a = np.random.default_rng(0).normal(1, 1, 6)
    b = np.random.default_rng(1).normal(0, 2, 9)
    t = stats.ttest_ind(a, b).statistic
    # The usual approximation of the correction, 1 - 3 / (4 m - 1), is good to 1e-3 at m = 13.
    assert effect_size(a, b) == pytest.approx(t * np.sqrt(1 / 6 + 1 / 9) * (1 - 3 / 51), rel=1e-3)


@pytest.mark.parametrize("m", [1, 4, 25])
def test_false_discovery_control(m: int) -> None:
    p = np.random.default_rng(m).uniform(0, 1, m) ** 2
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12)
