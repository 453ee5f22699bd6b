"""Two conditions at the same draws: tests of a difference, a test of equality, and divergent runs that count.

Beside ``statistics``, whose vectors, intervals and errors these use. "Not significantly different" is not "the same":
``equivalence`` is the test of that, with a margin that was fixed before the runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from equipoise.errors import InputError
from equipoise.measure.statistics import Estimate, Values, bootstrap, estimate

__all__ = ["PairedComparison", "Ranks", "compare", "equivalence", "holm", "mann_whitney", "wilcoxon"]

# The most pairs for which the signed-rank distribution is counted out; the normal law serves beyond.
COUNTED = 200


@dataclass(frozen=True)
class Ranks:
    """A rank test: its statistic, its two-sided p, and an effect size in [-1, 1] (0: neither is larger)."""

    statistic: float
    p: float
    effect: float


@dataclass(frozen=True)
class PairedComparison:
    """What ``compare`` says of a - b over pairs.

    difference: the mean with its bias-corrected bootstrap interval; median: of the same differences; wilcoxon,
    mann_whitney: rank tests, the second as if the pairs were none; equivalence: p of "|a - b| is at least margin";
    divergent: how many runs of a, and of b.
    """

    difference: Estimate
    median: float
    wilcoxon: Ranks
    mann_whitney: Ranks
    equivalence: float
    margin: float
    divergent: tuple[int, int]

    def verdict(self, p: float | None = None) -> Literal["higher", "lower", "equal", "open"]:
        """a against b at the 5 % level: "equal" within the margin, else by Wilcoxon's test; "open" is neither.

        ``p``: that of Wilcoxon's test after ``holm``, where it is one of several.
        """
        if self.equivalence < 0.05:
            return "equal"
        if (self.wilcoxon.p if p is None else p) < 0.05:
            return "higher" if self.wilcoxon.effect > 0 else "lower"
        return "open"


def wilcoxon(a: Values, b: Values) -> Ranks:
    """Wilcoxon's signed-rank test of pairs, exact, ties included.

    W = sum of the ranks of |a - b| where a > b; pairs without a difference are left out (Wilcoxon 1945), equal
    distances share their mean rank. p = min(1, 2 min(P(W <= w), P(W >= w))) over all 2^n signs, counted out for up to
    200 pairs, by the normal law beyond. effect: the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-).
    """
    first, second = _pairs(a, b)
    with np.errstate(invalid="ignore"):
        d = np.where(first == second, 0.0, first - second)
    d = d[d != 0]
    if len(d) == 0:
        return Ranks(0.0, 1.0, 0.0)
    doubled = _doubled_ranks(np.abs(d))
    above, total = int(doubled[d > 0].sum()), int(doubled.sum())
    effect = (2 * above - total) / total
    if len(d) <= COUNTED:
        chances = np.zeros(total + 1)
        chances[0] = 1.0
        for rank in doubled:
            moved = np.zeros_like(chances)
            moved[rank:] = chances[: total + 1 - rank]
            chances = (chances + moved) / 2
        tail = min(chances[: above + 1].sum(), chances[above:].sum())
    else:
        spread = math.sqrt(float((doubled.astype(np.float64) ** 2).sum()) / 4)
        tail = _normal_tail((abs(above - total / 2) - 0.5) / spread)
    return Ranks(above / 2, min(1.0, 2 * float(tail)), effect)


def mann_whitney(a: Values, b: Values) -> Ranks:
    """The Mann-Whitney test of two independent samples: the I-Norm paper's, though its runs are pairs.

    U = the number of (a_i, b_j) with a_i > b_j, ties counting half; p two-sided, exact for small samples without ties
    (scipy's rule), else by the normal law with corrections. effect: 2 U / (n m) - 1 (Cliff's delta).
    """
    from scipy.stats import mannwhitneyu

    first, second = _sample("a", a), _sample("b", b)
    # Ranks alone matter, and infinite values have them: the worst, or the best.
    order = _doubled_ranks(np.concatenate([first, second]))
    found = mannwhitneyu(order[: len(first)], order[len(first) :], alternative="two-sided")
    u = float(found.statistic)
    return Ranks(u, float(found.pvalue), 2 * u / (len(first) * len(second)) - 1)


def equivalence(a: Values, b: Values, margin: float) -> float:
    """p of the two one-sided t tests that the mean of a - b over pairs lies within ± ``margin``.

    p = max(P(T_{n-1} >= (m + margin) / s), P(T_{n-1} >= (margin - m) / s)), m and s the mean of d = a - b and its
    standard error; below 0.05 exactly where the 90 % interval of m lies inside ± margin (Schuirmann 1987). NaN for one
    pair.
    """
    from scipy.stats import t

    if not margin > 0:
        raise InputError(f"the margin of equivalence is {margin}; it must be above 0, and fixed before the runs")
    first, second = _pairs(a, b)
    d = first - second
    if not np.isfinite(d).all():
        raise InputError("a mean needs finite values; give divergent runs the value that they score (compare's floor)")
    m = float(d.mean())
    if len(d) == 1:
        return math.nan
    s = float(d.std(ddof=1)) / math.sqrt(len(d))
    if s == 0:
        return 0.0 if abs(m) < margin else 1.0
    return float(max(t.sf((m + margin) / s, len(d) - 1), t.sf((margin - m) / s, len(d) - 1)))


def holm(p: Values) -> np.ndarray:
    """p values adjusted so that rejecting those below q errs anywhere with probability at most q, in any dependence.

    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), returned in the order given (Holm 1979).
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise InputError("p values are a non-empty list of numbers in [0, 1]")
    m = len(values)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * (m - np.arange(m))), 1.0)
    return adjusted


def compare(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    margin: float,
    floor: float,
    level: float = 0.95,
    seed: int = 0,
) -> PairedComparison:
    """Everything that a paired design says of a against b, with divergent runs counted.

    None, or a value that is not finite, is a run that diverged: in rank tests it is worse than every run that did not
    (two such are equal), in means it scores ``floor``, which is what guessing would. Higher values are better.
    ``margin``: of ``equivalence``, in the unit of the values.
    """
    if len(a) != len(b) or not len(a):
        raise InputError(f"pairs are needed, at least one: a has {len(a)} values, b has {len(b)}")
    ranked, scored, lost = [], [], []
    for values in (a, b):
        held = [v is not None and math.isfinite(v) for v in values]
        ranked.append([float(v) if ok and v is not None else -math.inf for v, ok in zip(values, held, strict=True)])
        scored.append([float(v) if ok and v is not None else floor for v, ok in zip(values, held, strict=True)])
        lost.append(held.count(False))
    d = np.subtract(scored[0], scored[1])
    return PairedComparison(
        difference=bootstrap(d, level=level, seed=seed) if len(d) > 1 else estimate(d),
        median=float(np.median(d)),
        wilcoxon=wilcoxon(*ranked),
        mann_whitney=mann_whitney(*ranked),
        equivalence=equivalence(scored[0], scored[1], margin),
        margin=margin,
        divergent=(lost[0], lost[1]),
    )


def _doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the rank of each value from 1, equal ones sharing their mean rank: whole numbers."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (2 * last - count + 1)[place]


def _normal_tail(z: float) -> float:
    return math.erfc(max(z, 0.0) / math.sqrt(2)) / 2


def _sample(name: str, values: Values) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or np.isnan(x).any():
        raise InputError(f"'{name}' must be a non-empty list of numbers without NaN; its shape is {x.shape}")
    return x


def _pairs(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    first, second = _sample("a", a), _sample("b", b)
    if len(first) != len(second):
        raise InputError(f"a paired test needs pairs: a has {len(first)} values, b has {len(second)}")
    return first, second
