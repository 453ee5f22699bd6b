"""The current of excitatory cells under lateral inhibition that subtracts and divides, stable for spiking activity.

    z = gain (e - s) / stab(d) + bias

Letters: e (B, E) the excitatory drive, s what is subtracted, d >= 0 what divides, all of one shape; E lies on axis
``unit_dim`` (-1; -3 for channels at each position), and a *row* is everything from there on: one sample at one time
step. Spikes are sparse, so d is 0 in places. *Adaptive stabilisation* puts the smallest positive d of its row there;
a row without any is silent, stab(d) = inf, z = bias. Backwards stab passes the error as if it were the identity
(straight through). The equation is ``functional.inhibition.inhibit``, shared with rate circuits.
Source: E-I spiking paper, adaptive stabilisation and straight-through estimator.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.functional.edits import backward_edits
from equipoise.functional.inhibition import inhibit
from equipoise.functional.moments import straight, wide

__all__ = ["ei_current", "ei_current_plain", "scale_gradient", "stabilise"]


def _across(unit_dim: int) -> tuple[int, ...]:
    return tuple(range(unit_dim, 0))


def stabilise(d: Float[Tensor, "*B"], *, unit_dim: int = -1) -> Float[Tensor, "*B"]:
    """d where it is positive, elsewhere the smallest positive value of the row; inf throughout a row without any.

    What is not positive counts as 0: rounding may leave a sum of products at -1e-9. NaN stays NaN, also where it should
    have stood in, so that whoever diverges is seen. No branch, no look at the values.
    """
    none = d <= 0  # not so for NaN
    least = torch.where(none, math.inf, d).amin(_across(unit_dim), keepdim=True)
    return torch.where(none, least, d)


def _by_unit(vector: Tensor, unit_dim: int) -> Tensor:
    return vector.reshape(-1, *(1,) * (-unit_dim - 1))


def ei_current_plain(
    e: Float[Tensor, "*B"],
    s: Tensor | None,
    d: Tensor | None,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    unit_dim: int = -1,
    adaptive: bool = True,
    through: bool = True,
) -> Float[Tensor, "*B"]:
    """The current from single operations; the definition that ``ei_current`` is held to.

    adaptive: stabilise d. through: straight through, otherwise the exact derivative of stab (the smallest value gets
    the errors of all places where it stands in), which is also what ``exact_backward`` takes.
    """
    if d is not None and adaptive:
        stable = stabilise(d, unit_dim=unit_dim)
        # At inf, inf - inf would be NaN; there the error is 0 either way.
        d = straight(stable, torch.where(stable == math.inf, 0, d)) if through and backward_edits() else stable
    g, b = (None if vector is None else _by_unit(vector, unit_dim) for vector in (gain, bias))
    return inhibit(e, s, d, g, b)


class _EICurrent(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        e: Tensor, s: Tensor | None, d: Tensor, gain: Tensor, bias: Tensor, unit_dim: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        stable = stabilise(d, unit_dim=unit_dim)
        ratio = (e if s is None else e - s) / stable
        return torch.addcmul(_by_unit(bias, unit_dim), ratio, _by_unit(gain, unit_dim)), ratio, stable

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, s, _, gain, _, ctx.unit_dim = inputs
        _, ratio, stable = output
        ctx.mark_non_differentiable(ratio, stable)
        ctx.set_materialize_grads(False)
        ctx.subtracts = s is not None
        ctx.save_for_backward(ratio, stable, gain)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if g is None:
            return (None,) * 6
        ratio, stable, gain = ctx.saved_tensors
        units = gain.shape[0]
        de = g * _by_unit(gain, ctx.unit_dim) / stable
        ds = -de if ctx.subtracts and ctx.needs_input_grad[1] else None
        dd = -de * ratio if ctx.needs_input_grad[2] else None
        others = [k for k in range(-g.ndim, 0) if k != ctx.unit_dim]
        dgain = (g * ratio).sum(others).reshape(units) if ctx.needs_input_grad[3] else None
        dbias = g.sum(others).reshape(units) if ctx.needs_input_grad[4] else None
        return de, ds, dd, dgain, dbias, None


class _ScaleGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, factor: float) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None]:  # type: ignore[override]
        return g * ctx.factor, None


# ``Function.apply`` reads these signatures at every call; working them out would cost more than a small layer.
for _function in (_EICurrent, _ScaleGradient):
    _function.forward.__signature__ = inspect.signature(_function.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def _apply(e: Tensor, s: Tensor | None, d: Tensor, gain: Tensor, bias: Tensor, unit_dim: int) -> Tensor:
    return _EICurrent.apply(e, s, d, gain, bias, unit_dim)[0]


@torch.compiler.allow_in_graph
def _scaled(weight: Tensor, factor: float) -> Tensor:
    return _ScaleGradient.apply(weight, factor)


def ei_current(
    e: Float[Tensor, "*B"],
    s: Float[Tensor, "*B"] | None,
    d: Float[Tensor, "*B"],
    gain: Float[Tensor, " E"],
    bias: Float[Tensor, " E"],
    *,
    unit_dim: int = -1,
) -> Float[Tensor, "*B"]:
    """``ei_current_plain`` in one node: z = gain (e - s) / stab(d) + bias, straight through stab.

        dL/de = gain g / stab(d) = -dL/ds,    dL/dd = -dL/de (e - s) / stab(d),    g = dL/dz

    Two tensors are kept: (e - s) / stab(d) and stab(d). The division is in float32 where e is in less. Under
    ``exact_backward`` the plain form's own derivative is taken.
    """
    if not backward_edits():
        return ei_current_plain(e, s, d, gain, bias, unit_dim=unit_dim)
    return _apply(wide(e), s, wide(d), wide(gain), wide(bias), unit_dim).to(e.dtype)


def scale_gradient(weight: Float[Tensor, "*B"], factor: float | int) -> Float[Tensor, "*B"]:
    """``weight`` itself, whose gradient comes out times ``factor``; the identity under ``exact_backward``."""
    return _scaled(weight, float(factor)) if backward_edits() else weight
