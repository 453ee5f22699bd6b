"""Timing two sides of a comparison so that drift, order and luck fall out of the ratio.

Each round times both sides once, in a random order, and keeps their ratio; the result is the median of the
ratios with the 95 % interval that the order statistics give it. Rounds go on until the medians of the first
and the second half agree and the interval is narrow, or the stated maximum is reached: a bar is held by the
interval's better end, so a wide interval must not be one that holds everything.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Side = Callable[[], float]  # does the work once and returns the seconds it took


class Skipped(Exception):
    """A benchmark that cannot run here, and why."""


@dataclass(frozen=True)
class Effort:
    """How long to go on: at least ``least`` rounds, at most ``most``, until two halves agree and ``width`` is met."""

    least: int = 40
    most: int = 400
    agreement: float = 0.05
    width: float = 0.05  # of the interval, relative to the median
    warm_up: float = 0.5  # seconds on each side


@dataclass(frozen=True)
class Pair:
    """Two sides of one comparison; ``floor`` is the lowest ratio that could be expected."""

    ours: Side
    baseline: Side
    floor: float | None = None
    effort: Effort = Effort()


@dataclass(frozen=True)
class Once:
    """One piece of work that returns its own number: its seconds, or a ratio that is counted, not timed."""

    work: Side


@dataclass(frozen=True)
class Timing:
    """What a comparison gave; ``value`` is a ratio for a ``Pair`` and what a ``Once`` returned."""

    value: float
    low: float | None
    high: float | None
    rounds: int
    settled: bool
    ours: float
    baseline: float | None = None
    floor: float | None = None


def timed(step: Callable[[], object], *, block: float = 0.01) -> Side:
    """A side that runs ``step`` often enough to fill ``block`` seconds and returns the seconds per step."""
    repeats = 0

    def side() -> float:
        nonlocal repeats
        if not repeats:
            step()
            start = time.perf_counter()
            step()
            repeats = max(1, math.ceil(block / (time.perf_counter() - start)))
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - start) / repeats

    return side


def median_interval(values: list[float], level: float = 0.95) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with probability at least ``level``.

    P(x_(k) < median < x_(n+1-k)) = 1 - 2 P(Bin(n, 1/2) < k); below six values it is the range itself.
    """
    ordered = sorted(values)
    n = len(ordered)
    tail, k = 0.0, 0
    while k < n // 2 and tail + math.comb(n, k) / 2**n <= (1 - level) / 2:
        tail += math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def halves_agree(values: list[float], agreement: float) -> bool:
    """Whether the medians of the first and the second half differ by at most ``agreement``, relatively."""
    middle = len(values) // 2
    first, second = statistics.median(values[:middle]), statistics.median(values[middle:])
    return abs(first - second) <= agreement * min(abs(first), abs(second))


def narrow(values: list[float], width: float) -> bool:
    """Whether the median's interval is at most ``width`` wide, relatively."""
    low, high = median_interval(values)
    return high - low <= width * statistics.median(values)


def compare(pair: Pair, *, seed: int = 0) -> Timing:
    """Time the two sides of ``pair`` in rounds of random order."""
    order = random.Random(seed)
    for side in (pair.baseline, pair.ours):
        spent = side()
        while spent < pair.effort.warm_up:
            start = time.perf_counter()
            side()
            spent += max(time.perf_counter() - start, 1e-3)
    ours: list[float] = []
    baseline: list[float] = []
    ratios: list[float] = []
    settled = False
    gc.collect()
    gc.disable()
    try:
        while not settled and len(ratios) < pair.effort.most:
            sides = [(pair.ours, ours), (pair.baseline, baseline)]
            order.shuffle(sides)
            for side, seconds in sides:
                seconds.append(side())
            ratios.append(ours[-1] / baseline[-1])
            enough = len(ratios) >= pair.effort.least
            settled = enough and halves_agree(ratios, pair.effort.agreement) and narrow(ratios, pair.effort.width)
    finally:
        gc.enable()
    low, high = median_interval(ratios)
    return Timing(
        value=statistics.median(ratios),
        low=low,
        high=high,
        rounds=len(ratios),
        settled=settled,
        ours=statistics.median(ours),
        baseline=statistics.median(baseline),
        floor=pair.floor,
    )


def measure(subject: Pair | Once, *, seed: int = 0) -> Timing:
    """The timing of a comparison, or of one piece of work."""
    if isinstance(subject, Pair):
        return compare(subject, seed=seed)
    number = subject.work()
    return Timing(value=number, low=None, high=None, rounds=1, settled=True, ours=number)
