"""Sets that a parameter can be held in, each as the projection onto it, and the pure form that applies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from equipoise.contracts import Constraint
from equipoise.errors import InputError

__all__ = ["Interval", "NonNegative", "NonPositive", "project"]


@dataclass(frozen=True)
class NonNegative:
    """Entries >= 0: an excitatory synapse. The projection is max(w, 0)."""

    def project(self, value: Tensor) -> Tensor:
        """max(w, 0), elementwise."""
        return value.clamp(min=0)


@dataclass(frozen=True)
class NonPositive:
    """Entries <= 0. The projection is min(w, 0)."""

    def project(self, value: Tensor) -> Tensor:
        """min(w, 0), elementwise."""
        return value.clamp(max=0)


@dataclass(frozen=True)
class Interval:
    """Entries within [low, high]; ``InputError`` if low > high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(f"an interval needs low <= high, not low={self.low}, high={self.high}")

    def project(self, value: Tensor) -> Tensor:
        """min(max(w, low), high), elementwise."""
        return value.clamp(self.low, self.high)


def project(params: Mapping[str, Tensor], constraints: Mapping[str, Constraint]) -> dict[str, Tensor]:
    """``params`` with each constrained entry moved to the nearest point of its set; the others as they are.

    Raises ``InputError`` for a constraint that names no parameter.
    """
    missing = sorted(set(constraints) - set(params))
    if missing:
        raise InputError(f"constraints name parameters that do not exist: {', '.join(missing)}")
    return {n: constraints[n].project(p) if n in constraints else p for n, p in params.items()}
