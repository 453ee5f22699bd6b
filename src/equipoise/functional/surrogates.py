"""The derivative that stands in for that of a spike.

A cell spikes where its distance to threshold u = h - theta is not negative: s = H(u), whose derivative is 0 but at the
threshold. Backwards, s is taken for a smooth step F(u) from 0 to 1, centred on the threshold, and the error passes by
F'(u). With sharpness a (the default makes F'(0) = 1):

    sigmoid        F = 1 / (1 + exp(-a u))                              F' = a F (1 - F)                  a = 4
    arctangent     F = 1/2 + arctan(pi a u / 2) / pi                    F' = (a / 2) / (1 + (pi a u / 2)^2)    a = 2
    triangle       F = 1/2 + a u (1 - a |u| / 2), 0 and 1 beyond 1/a    F' = a max(0, 1 - a |u|)          a = 1
    fast_sigmoid   F = (1 + a u / (1 + a |u|)) / 2                      F' = (a / 2) / (1 + a |u|)^2      a = 2

Sources: the E-I spiking paper's code (sigmoid, a = 4); Fang et al. 2021; Esser et al. 2016; Zenke and Ganguli 2018.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError
from equipoise.registry import Registry

__all__ = ["Surrogate", "sharpness_of", "spike", "surrogates"]


@dataclass(frozen=True)
class Surrogate:
    """A smooth step. ``smooth(u, a)`` is F(u); ``pull(g, u, a)`` is g F'(u), the error on its way back.

    ``pull_(g, u, a)``, if there is one, gives the same in the memory of u.
    """

    smooth: Callable[[Tensor, float], Tensor]
    pull: Callable[[Tensor, Tensor, float], Tensor]
    sharpness: float
    pull_: Callable[[Tensor, Tensor, float], Tensor] | None = None

    def slope(self, u: Tensor, sharpness: float | None = None) -> Tensor:
        """F'(u)."""
        return self.pull(torch.ones_like(u), u, self.sharpness if sharpness is None else sharpness)


surrogates: Registry[Surrogate] = Registry("surrogate")


def _pull_sigmoid(g: Tensor, u: Tensor, a: float) -> Tensor:
    return torch.ops.aten.sigmoid_backward(g, (a * u).sigmoid_()) * a


def _pull_sigmoid_(g: Tensor, u: Tensor, a: float) -> Tensor:
    u.mul_(a).sigmoid_()
    torch.ops.aten.sigmoid_backward.grad_input(g, u, grad_input=u)
    return u.mul_(a)


def _pull_arctangent(g: Tensor, u: Tensor, a: float) -> Tensor:
    return g * (a / 2) / (1 + (u * (math.pi * a / 2)).square())


def _smooth_triangle(u: Tensor, a: float) -> Tensor:
    x = (a * u).clamp(-1, 1)
    return 0.5 + x * (1 - x.abs() / 2)


def _pull_triangle(g: Tensor, u: Tensor, a: float) -> Tensor:
    return g * (a - a * a * u.abs()).clamp(min=0)


def _pull_fast_sigmoid(g: Tensor, u: Tensor, a: float) -> Tensor:
    return g * (a / 2) / (1 + a * u.abs()).square()


surrogates.register("sigmoid")(Surrogate(lambda u, a: (a * u).sigmoid(), _pull_sigmoid, 4.0, _pull_sigmoid_))
surrogates.register("arctangent")(
    Surrogate(lambda u, a: 0.5 + (u * (math.pi * a / 2)).arctan() / math.pi, _pull_arctangent, 2.0)
)
surrogates.register("triangle")(Surrogate(_smooth_triangle, _pull_triangle, 1.0))
surrogates.register("fast_sigmoid")(
    Surrogate(lambda u, a: 0.5 * (1 + a * u / (1 + a * u.abs())), _pull_fast_sigmoid, 2.0)
)


def sharpness_of(surrogate: str, sharpness: float | None) -> float:
    """``sharpness`` or the surrogate's own; ``InputError`` for an unknown name, or unless it is above 0."""
    found = surrogates[surrogate].sharpness if sharpness is None else float(sharpness)
    if not 0 < found < math.inf:
        raise InputError(f"the sharpness of a surrogate is a number above 0, not {sharpness}")
    return found


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: str, sharpness: float) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate, ctx.sharpness = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return surrogates[ctx.surrogate].pull(g, u, ctx.sharpness), None, None


# ``Function.apply`` reads this signature at every call; working it out would cost more than a small layer.
_Spike.forward.__signature__ = inspect.signature(_Spike.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def _apply(u: Tensor, surrogate: str, sharpness: float) -> Tensor:
    return _Spike.apply(u, surrogate, sharpness)


def spike(
    u: Float[Tensor, "*B"], surrogate: str = "sigmoid", sharpness: float | int | None = None
) -> Float[Tensor, "*B"]:
    """s = 1 where u >= 0, else 0; the error passes by the surrogate's F'(u). A cell at its threshold spikes."""
    return _apply(u, surrogate, sharpness_of(surrogate, sharpness))
