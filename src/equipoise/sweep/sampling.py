"""Settings to try: grids, and draws from a seed that several conditions share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from equipoise.errors import InputError
from equipoise.randomness import generator

__all__ = ["Choice", "Integers", "Law", "LogUniform", "Uniform", "draws", "grid"]


class Law(Protocol):
    """What a value is drawn from: ``at(u)`` for u uniform in [0, 1) is one value."""

    def at(self, u: float) -> Any: ...


@dataclass(frozen=True)
class Uniform:
    """low + u (high - low), to ``digits`` significant digits, so that a spec is short."""

    low: float
    high: float
    digits: int = 4

    def __post_init__(self) -> None:
        _check(self.low, self.high)

    def at(self, u: float) -> float:
        """The value at ``u``."""
        return float(f"{self.low + u * (self.high - self.low):.{self.digits}g}")


@dataclass(frozen=True)
class LogUniform:
    """low (high / low)^u: the logarithm is uniform, which suits rates."""

    low: float
    high: float
    digits: int = 4

    def __post_init__(self) -> None:
        _check(self.low, self.high)
        if self.low <= 0:
            raise InputError(f"a logarithmic range from {self.low} to {self.high} does not exist; begin above 0")

    def at(self, u: float) -> float:
        """The value at ``u``."""
        return float(f"{self.low * math.exp(u * math.log(self.high / self.low)):.{self.digits}g}")


@dataclass(frozen=True)
class Integers:
    """Whole numbers from ``low`` to ``high``, both included, each as likely as the others."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check(self.low, self.high)

    def at(self, u: float) -> int:
        """The value at ``u``."""
        return self.low + int(u * (self.high - self.low + 1))


@dataclass(frozen=True)
class Choice:
    """One of ``values``, each as likely as the others."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("a choice needs at least one value")

    def at(self, u: float) -> Any:
        """The value at ``u``."""
        return self.values[int(u * len(self.values))]


def _check(low: float, high: float) -> None:
    if not low <= high:
        raise InputError(f"the range from {low} to {high} is empty; write the smaller number first")


def grid(axes: Mapping[str, Sequence[Any]] | None = None, /, **more: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the values of each axis, the last one changing fastest.

    >>> grid(rule=["bp", "fa"], seed=range(2))[1]
    {'rule': 'bp', 'seed': 1}
    """
    named = {**(axes or {}), **more}
    return [dict(zip(named, values, strict=True)) for values in itertools.product(*named.values())]


def draws(count: int, axes: Mapping[str, Law] | None = None, /, *, seed: int = 0, **more: Law) -> list[dict[str, Any]]:
    """``count`` draws of all axes; each value depends on (seed, its axis, its place) alone.

    So the first draws are the same for every count, and an axis that is added leaves the others as they were.

    >>> draws(2, lr=LogUniform(1e-3, 1e-1))[0] == draws(5, lr=LogUniform(1e-3, 1e-1), width=Integers(50, 500))[0]
    False
    >>> draws(2, lr=LogUniform(1e-3, 1e-1)) == [{"lr": one["lr"]} for one in draws(5, lr=LogUniform(1e-3, 1e-1))[:2]]
    True
    """
    if count < 0:
        raise InputError(f"{count} draws cannot be made; give 0 or more")
    named = {**(axes or {}), **more}

    def value(name: str, place: int) -> Any:
        stream = generator(seed, "sweep draws", name, place)
        return named[name].at(torch.rand((), generator=stream, dtype=torch.float64).item())

    return [{name: value(name, place) for name in named} for place in range(count)]
