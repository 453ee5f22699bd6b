"""The slowness fit against SciPy's curve fitting from the authors' start, s = 0.5.

A failure would mean that our slowness is not the number that the paper's procedure gives.
"""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from equipoise import measure


@pytest.mark.parametrize("s", [0.03, 0.4, 0.8, 2.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_fixed_and_free_maximum(s: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.arange(1, 60)
    y = 55 * x / (s + x) + rng.normal(0, 0.3, 59)
    points, values = np.arange(60), np.concatenate([[10.0], y])

    def fixed(x, s):
        return y.max() * x / (s + x)

    (theirs,), _ = curve_fit(fixed, points, values, p0=[0.5])
    assert measure.slowness(y.tolist(), 10.0).slowness == pytest.approx(theirs, rel=1e-5)
    both, _ = curve_fit(lambda x, s, a: a * x / (s + x), points, values, p0=[0.5, 50])
    found = measure.slowness(y.tolist(), 10.0, free_maximum=True)
    assert [found.slowness, found.maximum] == pytest.approx(both.tolist(), rel=1e-5)
