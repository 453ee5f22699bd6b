"""The optimisers of a population: pure updates, each member with rates and other numbers of its own.

The numbers are tensors (M,) brought to the shape of the weight, (M, 1, ...). What they compute is what torch's
optimisers of the same names compute for each member alone, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["NAMES", "Kind", "along", "kind", "numbers"]

Numbers = Mapping[str, Tensor]
# (weight, gradient, state, numbers, rate, updates done) -> (weight, state); all (M, ...), the last is a scalar.
Update = Callable[[Tensor, Tensor, Numbers, Numbers, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]

NAMES = ("sgd", "adam", "adamw")
# What changes how torch computes an update, and not what.
_MANNERS = frozenset({"foreach", "fused", "capturable", "differentiable"})


class Kind(NamedTuple):
    """An optimiser: its update, its numbers with torch's defaults, and the names of what it keeps for each weight."""

    update: Update
    numbers: dict[str, float]
    kept: tuple[str, ...]


def along(value: Tensor, like: Tensor) -> Tensor:
    """``value`` (M,) with the further axes of ``like`` (M, ...), each of length 1."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))


def _sgd(nesterov: bool) -> Update:
    """b = mu b + (1 - tau) g (b = g at first),  w - lr b,  or with nesterov w - lr (g + mu b);  g has decay s w."""

    def update(
        w: Tensor, g: Tensor, state: Numbers, n: Numbers, rate: Tensor, done: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g = g + n["weight_decay"] * w
        # Without momentum torch keeps nothing, and damps nothing.
        taken = 1 - n["dampening"] * (n["momentum"] != 0) * (done > 0)
        buffer = n["momentum"] * state["momentum_buffer"] + taken * g
        return w - rate * (g + n["momentum"] * buffer if nesterov else buffer), {"momentum_buffer": buffer}

    return update


def _adam(decoupled: bool) -> Update:
    """m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w - lr mhat / (sqrt(vhat) + eps);  decoupled: w (1 - lr s)."""

    def update(
        w: Tensor, g: Tensor, state: Numbers, n: Numbers, rate: Tensor, done: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if decoupled:
            w = w * (1 - rate * n["weight_decay"])
        else:
            g = g + n["weight_decay"] * w
        m = state["exp_avg"] + (1 - n["beta1"]) * (g - state["exp_avg"])
        v = n["beta2"] * state["exp_avg_sq"] + (1 - n["beta2"]) * g.square()
        steps = (done + 1).to(w.dtype)
        first, second = 1 - n["beta1"] ** steps, (1 - n["beta2"] ** steps).sqrt()
        return w - rate / first * m / (v.sqrt() / second + n["eps"]), {"exp_avg": m, "exp_avg_sq": v}

    return update


def kind(name: str, options: Mapping[str, Any]) -> Kind | str:
    """The optimiser ``name`` with these options; where a population has none like it, why."""
    short = name.lower()
    if short not in NAMES:
        return f"the optimizer '{short}' is none of {', '.join(NAMES)}"
    nesterov = bool(options.get("nesterov"))
    if short == "sgd":
        found = Kind(_sgd(nesterov), {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}, ("momentum_buffer",))
    else:
        decay = 0.01 if short == "adamw" else 0.0
        numbers = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": decay}
        found = Kind(_adam(short == "adamw"), numbers, ("exp_avg", "exp_avg_sq"))
    for key, value in options.items():
        if key not in found.numbers and key not in _MANNERS and key not in ("nesterov", "betas") and value:
            return f"the optimizer option {key}={value!r} has no form for many members"
    return found


def numbers(chosen: Kind, options: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one member: what ``options`` say, else torch's defaults."""
    given = {key: float(options[key]) for key in chosen.numbers if key in options}
    if "betas" in options:
        given["beta1"], given["beta2"] = (float(beta) for beta in options["betas"])
    return chosen.numbers | given
