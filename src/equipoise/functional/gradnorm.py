"""GradNorm: what layer normalisation does to the error, without what it does to the activity.

The forward value is the identity. With g the error that arrives, z the activity of the same pass, m and v its mean
and population variance over the n units, and zhat = (z - m) / sqrt(v + eps), the error that leaves is g after

    center       g - mean(g)
    lateral      g - sum_i nu_i g_i                     one inhibitory cell with fixed weights nu, sum nu = 1
    decorrelate  g - zhat mean(g zhat)
    scale        g / sqrt(v + eps)

in this order, each if it was asked for. The first three with scale (``full``, without lateral) are the Jacobian of
layer normalisation; center and decorrelate are commuting projections as zhat has mean 0. ``decorrelate_raw`` is
g - (z - m) mean(g (z - m)), which is no projection unless v = 1: the form of a released program.
Source: I-Norm paper, eq. 2 and section 2.5.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError, unknown_name
from equipoise.functional.edits import backward_edits
from equipoise.functional.moments import centred, mean, real_units, wide

__all__ = ["MODES", "edit_error", "gradnorm", "read_modes"]

FULL = frozenset({"center", "decorrelate", "scale"})
MODES = FULL | {"lateral", "decorrelate_raw"}


def read_modes(modes: str | Iterable[str]) -> frozenset[str]:
    """``modes`` as a set: "full", one name, names joined by "+", or any number of names; "off" is none of them."""
    names = modes.split("+") if isinstance(modes, str) else list(modes)
    found: set[str] = set()
    for name in names:
        if name == "full":
            found |= FULL
        elif name in MODES:
            found.add(name)
        elif name not in ("", "off"):
            raise unknown_name("GradNorm mode", str(name), {*MODES, "full", "off"})
    return frozenset(found)


def edit_error(
    g: Float[Tensor, "*B"],
    z: Float[Tensor, "*B"],
    modes: frozenset[str],
    *,
    nu: Tensor | None = None,
    eps: float = 1e-5,
    count: Tensor | None = None,
    dim: int = -1,
) -> Float[Tensor, "*B"]:
    """The error ``g`` at the activity ``z`` after ``modes``; see the module."""
    e = wide(g)
    if "center" in modes:
        e = centred(e, count, dim=dim)
    if "lateral" in modes:
        assert nu is not None
        weights = nu.to(e.dtype).reshape(-1, *(1,) * (-dim - 1))
        e = e - (weights * e).sum(dim, keepdim=True)
        e = e if count is None else torch.where(real_units(e, count, dim), e, 0)
    if modes & {"decorrelate", "decorrelate_raw", "scale"}:
        around = centred(wide(z), count, dim=dim)
        inverse = (mean(around.square(), count, dim=dim, keepdim=True) + eps).rsqrt()
        if "decorrelate" in modes:
            hat = around * inverse
            e = e - hat * mean(e * hat, count, dim=dim, keepdim=True)
        if "decorrelate_raw" in modes:
            e = e - around * mean(e * around, count, dim=dim, keepdim=True)
        if "scale" in modes:
            e = e * inverse
    return e.to(g.dtype)


class _GradNorm(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor, nu: Tensor | None, count: Tensor | None, modes: frozenset[str], eps: float, dim: int
    ) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, nu, count, ctx.modes, ctx.eps, ctx.dim = inputs
        ctx.save_for_backward(z, nu, count)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        z, nu, count = ctx.saved_tensors
        edited = edit_error(g, z, ctx.modes, nu=nu, eps=ctx.eps, count=count, dim=ctx.dim)
        return edited, None, None, None, None, None


# ``Function.apply`` reads this signature at every call; working it out would cost more than a small layer.
_GradNorm.forward.__signature__ = inspect.signature(_GradNorm.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def _apply(z: Tensor, nu: Tensor | None, count: Tensor | None, modes: str, eps: float, dim: int) -> Tensor:
    return _GradNorm.apply(z, nu, count, frozenset(modes.split("+")), eps, dim)


def gradnorm(
    z: Float[Tensor, "*B"],
    modes: frozenset[str],
    *,
    nu: Tensor | None = None,
    eps: float = 1e-5,
    count: Tensor | None = None,
    dim: int = -1,
) -> Float[Tensor, "*B"]:
    """``z`` itself; the error that comes back through it is edited by ``modes`` (see the module).

    ``nu`` (n,) are the weights of lateral inhibition. The identity under ``exact_backward``. Raises ``InputError`` for
    an unknown mode, or "lateral" without ``nu``.
    """
    modes = read_modes(modes)
    if "lateral" in modes and nu is None:
        raise InputError("GradNorm mode 'lateral' pools the error with fixed weights: pass nu, which sums to 1")
    if not modes or not backward_edits():
        return z
    return _apply(z, nu, count, "+".join(sorted(modes)), eps, dim)
