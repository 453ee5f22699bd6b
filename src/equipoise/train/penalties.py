"""Penalties on the weights, inside the gradient: what decays is the gradient's own business, whatever the optimiser."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["add_penalties_", "slope", "strengths"]


def strengths(decay: Mapping[str, Any]) -> dict[float, float]:
    """The strengths s by power p in a table such as {"l2": 0.001, "l1": 1e-5}; a strength of 0 is none.

    Raises ``InputError`` for a key that is no l and a number, p below 1, and a strength that is no number >= 0.
    """
    found: dict[float, float] = {}
    for key, value in decay.items():
        power = re.fullmatch(r"l(\d+(?:\.\d+)?)", key)
        if power is None or float(power[1]) < 1:
            raise InputError(f"'decay' has the key '{key}'; write l and a power of 1 or more, as l2=0.001 or l1=1e-5")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise InputError(f"'decay.{key}' is {value!r}; give a number of 0 or more")
        if float(power[1]) in found:
            raise InputError(f"'decay' names the power {power[1]} twice; give one strength for each")
        found[float(power[1])] = float(value)
    return {p: s for p, s in sorted(found.items()) if s}


@torch.no_grad()
def add_penalties_(parameters: Iterable[Tensor], powers: Mapping[float, float]) -> None:
    """Add the gradient of each penalty to ``.grad``, for parameters that have one.

        R(w) = sum_p s_p / p |w|^p,     dR/dw = sum_p s_p |w|^(p-1) sign(w)     (sign(0) = 0)

    so that with p = 2 a plain step is w - lr (g + s w): the regulariser R beside the error E of the balance paper.
    """
    for w in parameters:
        if w.grad is None:
            continue
        for p, strength in powers.items():
            w.grad.add_(slope(w, p), alpha=strength)


def slope(w: Tensor, p: float) -> Tensor:
    """|w|^(p-1) sign(w), the derivative of |w|^p / p."""
    return w if p == 2 else w.sign() if p == 1 else w.sign() * w.abs().pow(p - 1)
