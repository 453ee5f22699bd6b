"""An I-Norm layer's activity and its local loss together, with both derivatives in closed form.

The same numbers as ``inorm`` and ``local_loss`` of ``functional.inhibition``, for a detached circuit with a divisive
pool under uniform weights: the drive of each pool is worked out once for both, and little else of the graph is left.
A column is a sample, B of them; z = (e - s) r, r = 1 / d, for n units. With T = sum_k z_k, E = n (Var_k z - 1),

    L = sum_b (T^2 + E^2) / (n^2 B)
    dL/ds = c r (T - 2 E T / n + 2 E z),    dL/dI = W_EI^T dL/ds,    c = -2 / (n^2 B)
    dL/dD = c r^2 / n_d (T^2 + 2 E^2 + 2 n E) D

so that each is numbers for a sample times what the forward pass has. Products are taken as W h^T, unit by unit, and
what layers learn from one input as one product: on two threads that halves their time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.functional.gradnorm import edit_error

__all__ = ["Learned", "Weights", "inorm_by_hand", "inorm_step"]


class Weights(NamedTuple):
    """Of a dense layer: W_EE (n, i), the bias of the drive, W_IE (n_i, i), W_EI (n, n_i), U_IE (n_d, i)."""

    ee: Float[Tensor, "e n"]
    bias: Float[Tensor, " e"] | None
    ie: Float[Tensor, "i n"]
    ei: Float[Tensor, "e i"]
    divisive: Float[Tensor, "m n"]


class Learned(NamedTuple):
    """What is learned by one layer: the gradients of W_EE, the bias, W_IE and U_IE, and the error at its input."""

    ee: Tensor
    bias: Tensor | None
    ie: Tensor
    divisive: Tensor
    below: Tensor | None


class _Pass(NamedTuple):
    """What a forward pass keeps: z (n, B), the pools' drives I and D, and by sample r, T, T^2, E + n, E."""

    z: Tensor
    cells: Tensor
    drive: Tensor
    inverse: Tensor
    total: Tensor
    squared: Tensor
    spread: Tensor
    excess: Tensor


def _inhibit(
    e: Tensor, below: Tensor, w_ie: Tensor, w_ei: Tensor, u_ie: Tensor, eps: float, weight: float
) -> tuple[_Pass, Tensor]:
    """The pass for the drive ``e`` (n, B) of the activity ``below`` (i, B), and ``weight`` times its local loss."""
    cells, drive = w_ie @ below, u_ie @ below
    apart = torch.addmm(e, w_ei, cells, alpha=-1)
    n, rows = apart.shape
    inverse = drive.square().sum(0).div(drive.shape[0]).add(eps).rsqrt()
    z = apart * inverse
    total = z.sum(0)
    squared = total.square()
    spread = torch.sub(z.square().sum(0), squared, alpha=1 / n)
    excess = spread - n
    loss = torch.addcmul(squared, excess, excess).sum() * (weight / (n * n * rows))
    return _Pass(z, cells, drive, inverse, total, squared, spread, excess), loss


def _local_errors(done: _Pass, weight: float | Tensor) -> tuple[Tensor, Tensor]:
    """(dL/ds, dL/dD) times ``weight``."""
    z, _, drive, inverse, total, squared, spread, excess = done
    n, rows = z.shape
    factor = inverse * (weight * (-2 / (n * n * rows)))
    slope = factor * excess
    to_s = torch.addcmul(torch.addcmul(factor * total, slope, total, value=-2 / n), z, slope, value=2)
    curve = torch.addcmul(squared, excess, spread, value=2) * factor
    return to_s, drive * (curve * inverse / drive.shape[0])


_CENTER = frozenset({"center"})


def _edited(g: Tensor, done: _Pass, modes: frozenset[str], nu: Tensor | None, eps: float, straight: bool) -> Tensor:
    """The error at the drive (n, B) from ``g`` (n, B) behind GradNorm."""
    if modes == _CENTER:
        g = torch.sub(g, g.sum(0), alpha=1 / g.shape[0])
    elif modes:
        g = edit_error(g.t(), done.z.t(), modes, nu=nu, eps=eps).t()
    return g if straight else g * done.inverse


class _INormStep(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        e: Tensor,
        h: Tensor,
        w_ie: Tensor,
        w_ei: Tensor,
        u_ie: Tensor,
        nu: Tensor | None,
        modes: frozenset[str],
        eps: float,
        straight: bool,
    ) -> tuple[Tensor, ...]:
        columns, below = e.reshape(-1, e.shape[-1]).t(), h.reshape(-1, h.shape[-1]).t()
        done, loss = _inhibit(columns, below, w_ie, w_ei, u_ie, eps, 1.0)
        return done.z.t().reshape(e.shape), loss, *done[1:]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, _, *kept = output
        _, h, _, w_ei, _, nu, ctx.modes, ctx.eps, ctx.straight = inputs
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, h, w_ei, nu, *kept)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_loss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        z, h, w_ei, nu, *kept = ctx.saved_tensors
        done = _Pass(z.reshape(-1, z.shape[-1]).t(), *kept)
        de = dw = dei = du = None
        if g is not None and ctx.needs_input_grad[0]:
            columns = g.reshape(-1, g.shape[-1]).t()
            de = _edited(columns, done, ctx.modes, nu, ctx.eps, ctx.straight).t().reshape(g.shape)
        if g_loss is not None:
            to_s, to_drive = _local_errors(done, g_loss)
            stacked = torch.cat([w_ei.t() @ to_s, to_drive]) @ h.reshape(-1, h.shape[-1])
            dw, du = torch.split_with_sizes(stacked, [done.cells.shape[0], to_drive.shape[0]])
            dei = to_s @ done.cells.t() if ctx.needs_input_grad[3] else None
        return de, None, dw, dei, du, None, None, None, None


# ``Function.apply`` reads this signature at every call; working it out would cost more than a small layer.
_INormStep.forward.__signature__ = inspect.signature(_INormStep.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def _apply(
    e: Tensor,
    h: Tensor,
    w_ie: Tensor,
    w_ei: Tensor,
    u_ie: Tensor,
    nu: Tensor | None,
    modes: str,
    eps: float,
    straight: bool,
) -> tuple[Tensor, Tensor]:
    wanted = frozenset(modes.split("+") if modes else ())
    return _INormStep.apply(e, h, w_ie, w_ei, u_ie, nu, wanted, eps, straight)[:2]


def inorm_step(
    e: Float[Tensor, "*B e"],
    h: Float[Tensor, "*B n"],
    w_ie: Float[Tensor, "i n"],
    w_ei: Float[Tensor, "e i"],
    u_ie: Float[Tensor, "m n"],
    *,
    modes: frozenset[str] = frozenset(),
    nu: Tensor | None = None,
    eps: float = 1e-5,
    straight: bool = False,
) -> tuple[Float[Tensor, "*B e"], Float[Tensor, ""]]:
    """(GradNorm(z), local loss) for the drive ``e`` of the activity ``h``, which passes no error here.

    z = (e - W_EI W_IE h) / sqrt(mean_k (U_IE h)_k^2 + eps). The error at z reaches e alone, after ``modes`` and the
    division (not with ``straight``); the loss reaches the other weights alone.
    """
    return _apply(e, h, w_ie, w_ei, u_ie, nu, "+".join(sorted(modes)), eps, straight)


def inorm_by_hand(
    h: Float[Tensor, "B n"],
    weights: Weights,
    *,
    modes: frozenset[str] = frozenset(),
    nu: Tensor | None = None,
    eps: float = 1e-5,
    straight: bool = False,
    weight: float = 1.0,
) -> tuple[Float[Tensor, "B e"], Float[Tensor, ""], Callable[[Tensor, float, bool], Learned]]:
    """``inorm_step`` with its drive, e = W_EE h + bias, without a graph: (z, ``weight`` times the local loss, back).

    ``back(g, factor, further)``: what the error ``g`` (B, e) at GradNorm(z) and ``factor`` times that loss teach, and
    the error at ``h``, None unless ``further``.
    """
    w_ee, bias, w_ie, w_ei, u_ie = weights
    below = h.t()
    drive = w_ee @ below if bias is None else torch.addmm(bias.unsqueeze(1), w_ee, below)
    done, loss = _inhibit(drive, below, w_ie, w_ei, u_ie, eps, weight)

    def back(g: Tensor, factor: float, further: bool) -> Learned:
        de = _edited(g.t(), done, modes, nu, eps, straight)
        to_s, to_drive = _local_errors(done, weight * factor)
        stacked = torch.cat([de, w_ei.t() @ to_s, to_drive]) @ h
        ee, ie, divisive = torch.split_with_sizes(stacked, [de.shape[0], w_ei.shape[1], u_ie.shape[0]])
        return Learned(ee, None if bias is None else de.sum(1), ie, divisive, (w_ee.t() @ de).t() if further else None)

    return done.z.t(), loss, back
