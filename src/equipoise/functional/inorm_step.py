"""An I-Norm layer's activity and its local loss in one node of the graph, with both derivatives in closed form.

The same numbers as ``inorm`` and ``local_loss`` of ``functional.inhibition``, for a detached circuit with a divisive
pool under uniform weights: the drive of each pool is worked out once for both, and little else of the graph is left.
With z = (e - s) / d, m and v its mean and population variance over n units, B rows, and p = dL/dz,

    p = 2 (m + 2 (v - 1) (z - m)) / (n B),     dL/ds = -p / d,     dL/dd = -2 (m^2 + 2 (v - 1) v) / (B d)
    dL/dI = dL/ds W_EI,     dL/dD_k = dL/dd D_k / (n_d d)
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.functional.gradnorm import edit_error

__all__ = ["inorm_step"]


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
        below = h.reshape(-1, h.shape[-1])
        cells, drive = below @ w_ie.t(), below @ u_ie.t()
        apart = torch.addmm(e.reshape(-1, e.shape[-1]), cells, w_ei.t(), alpha=-1)
        rows, n = apart.shape
        squared = torch.linalg.vector_norm(drive, dim=1, keepdim=True).square() / drive.shape[1] + eps
        d = squared.sqrt()
        z = apart / d
        m = z.mean(1, keepdim=True)
        m2 = m.square()
        v = torch.linalg.vector_norm(z, dim=1, keepdim=True).square() / n - m2
        excess = v - 1
        loss = (m2 + excess.square()).mean()
        slope, each = 2 * excess, (-2 / (n * rows)) / d
        to_s = torch.addcmul((m - slope * m) * each, z, slope * each)
        to_drive = drive * ((m2 + slope * v) * (-2 / (rows * drive.shape[1])) / squared)
        return z.reshape(e.shape), loss, d, to_s, to_s @ w_ei, to_drive, cells

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, _, d, to_s, to_cells, to_drive, cells = output
        _, h, _, _, _, nu, ctx.modes, ctx.eps, ctx.straight = inputs
        ctx.mark_non_differentiable(d, to_s, to_cells, to_drive, cells)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, h, d, to_s, to_cells, to_drive, cells, nu)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_loss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        z, h, d, to_s, to_cells, to_drive, cells, nu = ctx.saved_tensors
        de = dw = dei = du = None
        if g is not None and ctx.needs_input_grad[0]:
            de = edit_error(g, z, ctx.modes, nu=nu, eps=ctx.eps)
            de = de if ctx.straight else de / d.reshape(*de.shape[:-1], 1)
        if g_loss is not None:
            below = h.reshape(-1, h.shape[-1])
            if ctx.needs_input_grad[2]:
                dw = (to_cells * g_loss).t() @ below
            if ctx.needs_input_grad[3]:
                dei = (to_s * g_loss).t() @ cells
            if ctx.needs_input_grad[4]:
                du = (to_drive * g_loss).t() @ below
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
