"""The bipower unit: the positively homogeneous function of degree c."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["bipu"]


def bipu(x: Float[Tensor, "*B"], c: float | int, C: float | int = 1.0, D: float | int = 0.0) -> Float[Tensor, "*B"]:
    """A power of the input with a factor of its own on each side of 0.

        f(x) = C x^c  for x >= 0,     D |x|^c  for x < 0,     so that f(lambda x) = lambda^c f(x) for lambda > 0

    c = 1 is ReLU (C = 1, D = 0), leaky ReLU, the absolute value or the identity; c = 2, D = 0 is the squared ReLU.
    Raises ``InputError`` unless c > 0: otherwise f has no value at 0, and no scaling balances the unit (section 3.2;
    section 2.1 and E.4 print D x^c for x < 0, which has no real value for most c).
    """
    if not (c > 0 and math.isfinite(c)):
        raise InputError(f"a BiPU needs a power c > 0, not c={c}")
    side = torch.where(x >= 0, torch.full_like(x, C), torch.full_like(x, D))
    return side * x.abs().pow(c)
