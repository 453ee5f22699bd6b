"""What a weight costs: g(w) = sum over terms of a |w|^p with a, p > 0, one rule for a model or one for each parameter.

A rule is resolved once into terms (a, p) by parameter name; the solvers see nothing but powers and coefficients.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equipoise.errors import InputError, unknown_name
from equipoise.registry import Registry

__all__ = ["Cost", "CostRule", "Lp", "Mixture", "Terms", "criteria", "terms_by_name"]

Terms: TypeAlias = tuple[tuple[float, float], ...]

criteria: Registry[str] = Registry("criterion")


def _positive(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(f"{what} must be a finite number above 0, got {value!r}")
    return float(value)


@dataclass(frozen=True)
class Lp:
    """The cost g(w) = |w|^p of one weight, p > 0; a network costs the sum over its weights."""

    p: float = 2.0

    def __post_init__(self) -> None:
        _positive(self.p, "p of an Lp cost")

    @property
    def terms(self) -> Terms:
        """The terms (a, p): here (1, p) alone."""
        return ((1.0, float(self.p)),)

    def __str__(self) -> str:
        return f"L{self.p:g}"


@dataclass(frozen=True)
class Mixture:
    """The cost g(w) = sum_k a_k |w|^p_k with all a_k, p_k > 0: ``Mixture([(1, 2), (0.1, 1)])`` is an elastic net.

    In the logarithm of a scale such a cost is convex, because w g'(w) = sum a p |w|^p never falls as |w| grows.
    """

    parts: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        try:
            parts = tuple((a, p) for a, p in self.parts)
        except (TypeError, ValueError):
            raise InputError(f"a mixture is a list of pairs (a, p), got {self.parts!r}") from None
        if not parts:
            raise InputError("a mixture needs at least one pair (a, p)")
        for a, p in parts:
            _positive(a, "the coefficient of a mixture's term")
            _positive(p, "p of a mixture's term")
        object.__setattr__(self, "parts", parts)

    @property
    def terms(self) -> Terms:
        """The terms (a, p), those of one power added up."""
        summed: dict[float, float] = {}
        for a, p in self.parts:
            summed[float(p)] = summed.get(float(p), 0.0) + float(a)
        return tuple((a, p) for p, a in sorted(summed.items()))

    def __str__(self) -> str:
        return " + ".join(f"{a:g} L{p:g}" for a, p in self.terms)


Cost: TypeAlias = Lp | Mixture
CostRule: TypeAlias = Lp | Mixture | Mapping[str, Cost]

criteria.register("minimum")("the least cost: sum over IN of w g'(w) = the same over OUT")
criteria.register("equal_cost")("equal costs: sum over IN of g(w) = the same over OUT (Theorem D.2)")


def value(weight: Tensor, terms: Terms) -> float:
    """sum over elements and terms of a |w|^p, in float64."""
    size = weight.detach().abs().to(torch.float64)
    return sum(a * float(size.pow(p).sum()) for a, p in terms)


def check_rule(cost: CostRule) -> None:
    """Refuse what is no cost."""
    entries = cost.values() if isinstance(cost, Mapping) else [cost]
    for entry in entries:
        if not isinstance(entry, Lp | Mixture):
            raise InputError(
                f"a cost is Lp(p), Mixture([(a, p), ...]) or a dict of these by parameter name; got {entry!r}"
            )


def terms_by_name(
    cost: CostRule,
    names: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
    criterion: str = "minimum",
    known: Sequence[str] | None = None,
) -> dict[str, Terms]:
    """The terms (a, p) of every parameter in ``names``: its cost's, times its weight.

    ``cost`` and ``weights`` may map parameter names or globs; an exact name goes before a glob, the first glob before
    the next; ``known`` are all parameters of the model. A parameter without a weight weighs 1; weight 0 means that it
    costs nothing. The balance of equal costs minimises sum (a / p) |w|^p, since d/dv of |w e^v|^p is p times the cost:
    so ``equal_cost`` divides each a by its p.

    Raises: InputError for a name that fits no parameter, a parameter without a cost, a negative weight.
    """
    check_rule(cost)
    criteria[criterion]
    known = names if known is None else known
    costs = _lookup(cost, names, "cost", known) if isinstance(cost, Mapping) else dict.fromkeys(names, cost)
    missing = [n for n in names if n not in costs]
    if missing:
        raise InputError(
            f"no cost is given for {', '.join(missing[:4])}; add an entry '*' for the parameters left over"
        )
    factors = _lookup(weights or {}, names, "weight", known)
    for name, factor in factors.items():
        if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            raise InputError(f"the weight of '{name}' must be a finite number, 0 or above; got {factor!r}")
    found = {}
    for name in names:
        factor = float(factors.get(name, 1.0))
        divisor = (lambda p: p) if criterion == "equal_cost" else (lambda p: 1.0)
        found[name] = tuple((a * factor / divisor(p), p) for a, p in costs[name].terms) if factor else ()
    return found


def _lookup(entries: Mapping[str, Any], names: Iterable[str], kind: str, known: Sequence[str]) -> dict[str, Any]:
    """The entry of each name that has one: under its exact name, else under the first glob that matches."""
    for pattern in entries:
        if pattern not in known and not fnmatch.filter(known, pattern):
            raise unknown_name(f"parameter in the {kind} by name", pattern, known)
    found = {}
    for name in names:
        matches = [name] if name in entries else [p for p in entries if fnmatch.fnmatchcase(name, p)]
        if matches:
            found[name] = entries[matches[0]]
    return found
