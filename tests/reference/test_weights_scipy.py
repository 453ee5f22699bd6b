"""Fits of weights against SciPy's own, on samples small enough for its search.

A failure would mean that our fitted laws are not the ones that their names promise.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from equipoise import measure
from equipoise.measure.weights import fit_half_normal


@pytest.mark.parametrize("nu", [1.5, 3, 5])
@pytest.mark.parametrize("n", [60, 600])
def test_student_t(nu: float, n: int) -> None:
    """SciPy searches without derivatives; ours may only be the more likely of two that nearly agree."""
    w = stats.t.rvs(nu, loc=0.3, scale=0.05, size=n, random_state=3)
    found = measure.fit_student_t(torch.from_numpy(w))
    freedom, location, scale = stats.t.fit(w)
    theirs = stats.t.logpdf(w, freedom, location, scale).mean()
    ours = [found.parameters[name] for name in ("nu", "location", "scale")]
    assert ours == pytest.approx([freedom, location, scale], rel=2e-3)
    assert found.loglik >= theirs - 1e-12
    assert found.loglik == pytest.approx(stats.t.logpdf(w, *ours).mean(), rel=1e-12)
    points = [0.1, 0.3, 0.5]
    assert found.density(points) == pytest.approx(stats.t.pdf(points, *ours).tolist(), rel=1e-9)


@pytest.mark.parametrize("n", [10, 300])
def test_normal_and_the_laws_of_the_size(n: int) -> None:
    w = np.random.default_rng(n).normal(0.4, 0.7, n)
    mean, std = stats.norm.fit(w)
    normal = measure.fit_normal(w.tolist())
    assert normal.parameters == pytest.approx({"mean": mean, "std": std}, rel=1e-12)
    assert normal.loglik == pytest.approx(stats.norm.logpdf(w, mean, std).mean(), rel=1e-12)
    shape, _, scale = stats.lognorm.fit(np.abs(w), floc=0)
    log = measure.fit_lognormal(w.tolist())
    assert log.parameters == pytest.approx({"mean_log": np.log(scale), "std_log": shape}, rel=1e-5)
    assert log.density([0.2, 1.0]) == pytest.approx(stats.lognorm.pdf([0.2, 1.0], shape, scale=scale), rel=1e-4)
    half = fit_half_normal(w.tolist())
    _, wide = stats.halfnorm.fit(np.abs(w), floc=0)
    assert half.parameters["scale"] == pytest.approx(wide, rel=1e-9)
    assert half.loglik == pytest.approx(stats.halfnorm.logpdf(np.abs(w), scale=wide).mean(), rel=1e-9)


def test_moments() -> None:
    w = np.random.default_rng(0).standard_t(5, 2000)
    assert measure.excess_kurtosis(w.tolist()) == pytest.approx(stats.kurtosis(w), rel=1e-9)
    assert measure.positive_share(w.tolist()) == (w > 0).mean()
