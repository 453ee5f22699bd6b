"""Intervals, paired tests and effect sizes for a handful of seeds.

Everything is plain numbers in, plain numbers out, in float64. Values that are not finite make an estimate NaN
(a run that diverged must not vanish from a mean); the tests refuse them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from equipoise.errors import InputError

__all__ = [
    "Estimate",
    "PairedDifference",
    "benjamini_hochberg",
    "bootstrap",
    "effect_size",
    "estimate",
    "paired_difference",
]

Values = Sequence[float] | np.ndarray

# The largest number of pairs whose sign flips (2^16) are all enumerated.
ENUMERATED = 16


@dataclass(frozen=True)
class Estimate:
    """A mean over n values with its sample standard deviation and an interval."""

    mean: float
    sd: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a - b over pairs, its t interval, and the two-sided p of the named test."""

    mean: float
    low: float
    high: float
    p: float
    n: int
    test: str


def estimate(values: Values, *, level: float = 0.95) -> Estimate:
    """Mean, standard deviation and Student's interval of independent values.

    mean ± t_{n-1}((1 + level)/2) * sd / sqrt(n), with sd^2 = sum (x - mean)^2 / (n - 1).

    One value has no spread: sd, low and high are NaN.
    """
    x, level = _vector("values", values), _level(level)
    n = len(x)
    if not np.isfinite(x).all():
        return Estimate(math.nan, math.nan, math.nan, math.nan, n)
    mean = float(x.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    sd = float(x.std(ddof=1))
    half = _t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def bootstrap(
    values: Values,
    *,
    statistic: Callable[..., Any] = np.mean,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval of any statistic; ``mean`` is the statistic itself.

    The ends are the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled statistic, with
    z = Phi^-1((1 ± level)/2), z0 = Phi^-1(share of resamples below the statistic, ties counting half) and
    a = sum d^3 / (6 (sum d^2)^(3/2)) over d = mean(jackknife) - jackknife (Efron 1987).

    ``statistic`` takes an array and the keyword ``axis``. ``sd`` is that of the resamples. Below about ten
    values the interval is too short; ``estimate`` is the better one there.
    """
    from scipy.stats import norm

    x, level = _finite("values", values), _level(level)
    n = len(x)
    value = float(statistic(x, axis=-1))
    if n == 1:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    resampled = np.asarray(statistic(x[draws], axis=-1), dtype=np.float64)
    sd = float(resampled.std(ddof=1))
    if sd == 0:
        return Estimate(value, 0.0, value, value, n)
    share = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    shift = norm.ppf(np.clip(share, 1 / resamples, 1 - 1 / resamples))
    keep = ~np.eye(n, dtype=bool)
    jackknife = np.asarray(statistic(np.broadcast_to(x, (n, n))[keep].reshape(n, n - 1), axis=-1), dtype=np.float64)
    d = jackknife.mean() - jackknife
    spread = float((d**2).sum())
    acceleration = float((d**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = shift + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(resampled, norm.cdf(shift + z / (1 - acceleration * z)))
    return Estimate(value, sd, float(low), float(high), n)


def paired_difference(
    a: Values,
    b: Values,
    *,
    test: Literal["t", "permutation"] = "t",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> PairedDifference:
    """Mean difference of pairs (the same seeds under two rules), its interval and a two-sided p.

    d = a - b; t: p = P(|T_{n-1}| >= |mean(d)| / (sd(d) / sqrt(n))).
    permutation: p = share of the 2^n sign flips s with |mean(s d)| >= |mean(d)|, exact by enumeration up to
    16 pairs, else (1 + hits) / (1 + resamples). The smallest p that n pairs can give is 2 / 2^n.

    The interval is Student's in both cases. One pair: low, high and the t test's p are NaN.
    """
    first, second = _finite("a", a), _finite("b", b)
    if len(first) != len(second):
        raise InputError(f"a paired test needs pairs: a has {len(first)} values, b has {len(second)}")
    if test not in ("t", "permutation"):
        raise InputError(f"unknown paired test '{test}'; choose 't' or 'permutation'")
    d = first - second
    n = len(d)
    centre = estimate(d, level=level)
    p = _t_test(centre) if test == "t" else _sign_flips(d, resamples, seed)
    return PairedDifference(centre.mean, centre.low, centre.high, p, n, test)


def effect_size(a: Values, b: Values) -> float:
    """Hedges' g of two independent samples: the difference of means in units of their common spread.

    g = J(m) (mean(a) - mean(b)) / s, s^2 = ((n_a - 1) sd_a^2 + (n_b - 1) sd_b^2) / m, m = n_a + n_b - 2, and
    J(m) = Gamma(m/2) / (sqrt(m/2) Gamma((m - 1)/2)), which removes the bias of small samples (Hedges 1981).

    NaN where there is no spread to measure by: s = 0 or m < 2.
    """
    first, second = _finite("a", a), _finite("b", b)
    m = len(first) + len(second) - 2
    if m < 2:
        return math.nan
    squares = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    if squares == 0:
        return math.nan
    unbiased = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    return unbiased * float(first.mean() - second.mean()) / math.sqrt(squares / m)


def benjamini_hochberg(p: Values) -> np.ndarray:
    """p values adjusted so that rejecting those below q keeps the false discovery rate under q.

    adjusted_(i) = min over j >= i of min(1, m p_(j) / j), for the sorted p_(1) <= ... <= p_(m), returned in
    the order given (Benjamini and Hochberg 1995; independent or positively dependent tests).
    """
    values = _finite("p", p)
    if (values < 0).any() or (values > 1).any():
        raise InputError(f"p values lie in [0, 1]; seen {values.min():g} to {values.max():g}")
    m = len(values)
    order = np.argsort(values)
    scaled = values[order] * m / np.arange(1, m + 1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _t_test(centre: Estimate) -> float:
    """Two-sided p of mean = 0 from an estimate: 2 P(T_{n-1} > |mean| sqrt(n) / sd)."""
    from scipy.stats import t

    if centre.n == 1:
        return math.nan
    if centre.sd == 0:
        return 1.0 if centre.mean == 0 else 0.0
    return float(2 * t.sf(abs(centre.mean) * math.sqrt(centre.n) / centre.sd, centre.n - 1))


def _sign_flips(d: np.ndarray, resamples: int, seed: int) -> float:
    """Share of sign flips of d whose mean is at least as far from 0 as d's own."""
    n = len(d)
    if n <= ENUMERATED:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        sums = np.abs((1.0 - 2.0 * bits) @ d)
        extra = 0
    else:
        flips = np.random.default_rng(seed).choice([-1.0, 1.0], (resamples, n))
        sums = np.abs(flips @ d)
        extra = 1
    # Sums of the same numbers in another order differ by rounding; a tie must count as one.
    slack = 1e-12 * float(np.abs(d).sum())
    hits = int((sums >= abs(float(d.sum())) - slack).sum())
    return (hits + extra) / (len(sums) + extra)


def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(probability, freedom))


def _vector(name: str, values: Values) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise InputError(f"'{name}' must be a non-empty list of numbers; its shape is {x.shape}")
    return x


def _finite(name: str, values: Values) -> np.ndarray:
    x = _vector(name, values)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise InputError(f"'{name}' has {bad} of {len(x)} values that are not finite; leave those runs out first")
    return x


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"'level' must lie between 0 and 1; got {level}")
    return level
