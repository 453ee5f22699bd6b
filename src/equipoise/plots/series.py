"""What the drawing functions are given: numbers that somebody else has already averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.errors import InputError

__all__ = ["Point", "Series"]


@dataclass(frozen=True)
class Series:
    """A mean at each x, with the ends of its interval where there is one (NaN where there is none).

    ``x`` is numbers for a curve, names for bars and for angles per layer.
    """

    x: Sequence[float] | Sequence[str]
    mean: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def __post_init__(self) -> None:
        n = len(self.x)
        lengths = {"mean": len(self.mean), "low": len(self.low), "high": len(self.high)}
        wrong = {name: k for name, k in lengths.items() if k != n and not (k == 0 and name in ("low", "high"))}
        if wrong or bool(len(self.low)) != bool(len(self.high)):
            raise InputError(f"a series with {n} values of x needs as many of the rest; got {lengths}")

    @property
    def has_interval(self) -> bool:
        """Whether any x has an interval."""
        return any(math.isfinite(v) for v in self.low)


@dataclass(frozen=True)
class Point:
    """One row of ``estimates``: our mean and interval, and the published value if there is one."""

    label: str
    mean: float
    low: float = math.nan
    high: float = math.nan
    published: float | None = None
    published_sd: float | None = None
