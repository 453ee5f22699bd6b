"""Activations that can be inverted, by the type of the torch module that computes them.

A unit's activity is a = f(z). Target propagation needs f^-1, and f' at z, which is read off a. Another activation
joins by ``@unit.register(its_class)`` above a function from the module to its ``Unit``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError

__all__ = ["Unit", "known", "unit"]

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Unit:
    """An invertible activation. value: f(z); inverse: f^-1(a); slope: f'(z), from the activity a = f(z).

    piecewise_linear: whether f' is constant around every z but the kinks, so that small targets propagate exactly.
    low, high: the open range of f. ``inverse`` reads an activity outside as the last number inside.
    """

    value: Function
    inverse: Function
    slope: Function
    piecewise_linear: bool = False
    low: float = -torch.inf
    high: float = torch.inf


def _within(a: Tensor, low: float, high: float) -> Tensor:
    """``a`` with what lies outside the open range (low, high) moved to the last number inside."""
    eps = torch.finfo(a.dtype).eps
    return a.clamp(
        low + eps * max(1.0, abs(low)) if low > -torch.inf else None, high - eps if high < torch.inf else None
    )


@singledispatch
def unit(module: nn.Module) -> Unit:
    """The ``Unit`` of an activation module. Raises ``InputError`` with the remedy for one that has no inverse."""
    kind = type(module).__name__
    if "Pool" in kind:
        raise InputError(f"{kind} forgets all but one value of each window and has no inverse; use a stride instead")
    raise InputError(
        f"{kind} is no activation with an inverse; use nn.LeakyReLU(0.1), or register it with unit.register"
    )


def _none(module: nn.Module) -> Unit:
    raise InputError(
        f"{type(module).__name__} sends many sums to one activity and has no inverse; use nn.LeakyReLU(0.1)"
    )


def known(module: nn.Module) -> bool:
    """Whether ``unit`` has an entry for the module's type: one of torch's activations here, or somebody's own."""
    return unit.dispatch(type(module)) is not unit.dispatch(nn.Module)


for _kind in (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.GELU, nn.SiLU, nn.Mish, nn.Threshold):
    unit.register(_kind)(_none)


@unit.register(nn.Identity)
def _identity(module: nn.Identity) -> Unit:
    """f(z) = z."""
    return Unit(lambda z: z, lambda a: a, torch.ones_like, True)


@unit.register(nn.LeakyReLU)
def _leaky(module: nn.LeakyReLU) -> Unit:
    """f(z) = z where z > 0, else c z. The slope at 0 is c, as autograd has it."""
    c = float(module.negative_slope)
    if not c > 0:
        raise InputError(f"LeakyReLU({c:g}) sends many sums to one activity and has no inverse; use nn.LeakyReLU(0.1)")
    return Unit(
        lambda z: F.leaky_relu(z, c),
        lambda a: torch.where(a > 0, a, a / c),
        lambda a: torch.where(a > 0, torch.ones_like(a), c),
        True,
    )


@unit.register(nn.Tanh)
def _tanh(module: nn.Tanh) -> Unit:
    return Unit(torch.tanh, lambda a: torch.atanh(_within(a, -1.0, 1.0)), lambda a: 1 - a.square(), False, -1.0, 1.0)


@unit.register(nn.Sigmoid)
def _sigmoid(module: nn.Sigmoid) -> Unit:
    return Unit(torch.sigmoid, lambda a: torch.logit(_within(a, 0.0, 1.0)), lambda a: a * (1 - a), False, 0.0, 1.0)


@unit.register(nn.Softplus)
def _softplus(module: nn.Softplus) -> Unit:
    """f(z) = log(1 + exp(beta z)) / beta, f' = 1 - exp(-beta a)."""
    beta = float(module.beta)

    def inverse(a: Tensor) -> Tensor:
        inside = _within(a, 0.0, torch.inf)
        return inside + torch.log(-torch.expm1(-beta * inside)) / beta

    return Unit(lambda z: F.softplus(z, beta, module.threshold), inverse, lambda a: -torch.expm1(-beta * a), False, 0.0)


@unit.register(nn.Softsign)
def _softsign(module: nn.Softsign) -> Unit:
    """f(z) = z / (1 + |z|), f' = (1 - |a|)^2."""

    def inverse(a: Tensor) -> Tensor:
        inside = _within(a, -1.0, 1.0)
        return inside / (1 - inside.abs())

    return Unit(F.softsign, inverse, lambda a: (1 - a.abs()).square(), False, -1.0, 1.0)


def _exponential(module: nn.Module, value: Function, c: float, scale: float, width: float) -> Unit:
    """f(z) = scale z where z > 0, else scale c (exp(z / width) - 1); ``width`` is 1, or c for a smooth kink."""
    if not c > 0:
        name = f"{type(module).__name__}(alpha={c:g})"
        raise InputError(f"{name} sends many sums to one activity and has no inverse; use nn.LeakyReLU(0.1)")
    low = -scale * c

    def inverse(a: Tensor) -> Tensor:
        below = _within(a, low, torch.inf).clamp(max=0) / (scale * c)
        return torch.where(a > 0, a / scale, width * torch.log1p(below))

    def slope(a: Tensor) -> Tensor:
        return torch.where(a > 0, scale, (a - low) / width)

    return Unit(value, inverse, slope, False, low)


@unit.register(nn.ELU)
def _elu(module: nn.ELU) -> Unit:
    c = float(module.alpha)
    return _exponential(module, lambda z: F.elu(z, c), c, 1.0, 1.0)


@unit.register(nn.CELU)
def _celu(module: nn.CELU) -> Unit:
    c = float(module.alpha)
    return _exponential(module, lambda z: F.celu(z, c), c, 1.0, c)


@unit.register(nn.SELU)
def _selu(module: nn.SELU) -> Unit:
    """ELU with the two constants at which activities normalise themselves."""
    return _exponential(module, F.selu, 1.6732632423543772, 1.0507009873554805, 1.0)
