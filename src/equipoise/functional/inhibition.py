"""Subtractive and divisive inhibition, the local loss that trains them, and the weights that make them ideal.

Letters: h (B, n) the activity below; e (B, n_e) the excitatory drive; s what is subtracted; d what divides, (B, 1)
or (B, n_e). Weights are (post, pre). Units lie on ``dim``; padded units hold zero and ``count`` is their real number.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError, unknown_name
from equipoise.functional.edits import backward_edits
from equipoise.functional.moments import mean, straight, variance, wide

__all__ = ["divisive", "ideal", "inhibit", "inorm", "local_loss", "pooled", "subtractive"]


def subtractive(
    h: Float[Tensor, "*B n"], w_ie: Float[Tensor, "i n"], w_ei: Float[Tensor, "e i"]
) -> Float[Tensor, "*B e"]:
    """What a linear inhibitory pool subtracts: s = W_EI (W_IE h)."""
    return F.linear(F.linear(h, w_ie), w_ei)


def pooled(
    activity: Float[Tensor, "*B"],
    u_ei: Float[Tensor, "e m"] | None,
    eps: float,
    *,
    literal: bool = False,
    count: Tensor | None = None,
    dim: int = -1,
) -> Float[Tensor, "*C"]:
    """The divisor of a divisive pool with ``activity`` D (its m cells on ``dim``).

        d = sqrt(U_EI D^2 + eps),    without u_ei: d = sqrt(mean_k D_k^2 + eps), kept as one unit

    literal: D for D^2, as eq. 1 of the I-Norm paper is printed; then the radicand may be negative, and d is NaN.
    ``count`` is the real number of divisive cells.
    """
    drive = wide(activity)
    drive = drive if literal else drive.square()
    if u_ei is None:
        radicand = mean(drive, count, dim=dim, keepdim=True)
    elif dim == -1:
        radicand = F.linear(drive, u_ei.to(drive.dtype))
    else:
        radicand = F.linear(drive.movedim(dim, -1), u_ei.to(drive.dtype)).movedim(-1, dim)
    return (radicand + eps).sqrt().to(activity.dtype)


def divisive(
    h: Float[Tensor, "*B n"],
    u_ie: Float[Tensor, "m n"],
    u_ei: Float[Tensor, "e m"] | None,
    eps: float,
    *,
    literal: bool = False,
    count: Tensor | None = None,
) -> Float[Tensor, "*C"]:
    """d = sqrt(U_EI (U_IE h)^2 + eps), elementwise square; ``u_ei`` None: the uniform 1/m, which is never stored."""
    return pooled(F.linear(h, u_ie), u_ei, eps, literal=literal, count=count)


def inhibit(
    e: Float[Tensor, "*B"],
    s: Tensor | None,
    d: Tensor | None,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
) -> Float[Tensor, "*B"]:
    """Inhibited drive, gain (e - s) / d + bias; what is None is left out."""
    z = e if s is None else e - s
    z = z if d is None else z / d
    z = z if gain is None else gain * z
    return z if bias is None else z + bias


def inorm(
    e: Float[Tensor, "*B"],
    s: Tensor | None,
    d: Tensor | None,
    *,
    detach: Collection[str] = ("subtractive", "divisive"),
    division: Literal["exact", "straight"] = "exact",
) -> Float[Tensor, "*B"]:
    """The activity z = (e - s) / d as the task loss sees it.

    detach: pathways that pass no error, "subtractive" and "divisive". division: "straight" divides forwards alone:
    the error passes as if d were 1, so that a normaliser's scale can be told from GradNorm's. All of it is undone
    under ``exact_backward``.
    """
    if not backward_edits():
        return inhibit(e, s, d)
    s = s.detach() if s is not None and "subtractive" in detach else s
    d = d.detach() if d is not None and "divisive" in detach else d
    if division == "straight" and d is not None:
        apart = inhibit(e, s, None)
        return straight(apart / d, apart)
    return inhibit(e, s, d)


def local_loss(
    e: Float[Tensor, "*B"],
    s: Tensor | None,
    d: Tensor | None,
    *,
    form: str = "pre",
    count: Tensor | None = None,
    dim: int = -1,
) -> Float[Tensor, ""]:
    """How far inhibition is from normalising, the mean over the batch (and positions); it reaches s and d alone.

        L = mean_b [ m_b^2 + (v_b - 1)^2 ],    z = (stopgrad(e) - s) / d,  m, v: mean, population variance over units

    form "post" is the paper's: m is the mean and v the raw second moment of ReLU(z). It cannot reach 0: m^2 >= v / n
    for a non-negative layer, so L >= 1/n - 1/(4 n^2), where one single unit is active (errata I2). Raises
    ``InputError`` for another form.
    """
    z = inhibit(wide(e.detach()), s, d)
    if form == "post":
        h = torch.relu(z)
        first, second = mean(h, count, dim=dim), mean(h.square(), count, dim=dim)
    elif form == "pre":
        first, second = mean(z, count, dim=dim), variance(z, count, dim=dim)
    else:
        raise unknown_name("form of the local loss", form, ("pre", "post"))
    return (first.square() + (second - 1).square()).mean()


def ideal(w_ee: Float[Tensor, "e *n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "e *n"]]:
    """The inhibitory weights at which the layer *is* layer normalisation (without bias in the drive).

        every row of W_IE = mean_k W_EE[k],    U_IE = W_EE - 1 mean_k W_EE[k],    rows of W_EI sum to 1, U_EI = 1/n_e

    Then s = mean(e) and mean((U_IE h)^2) = Var(e), for every h: the local loss is 0 (eps aside), and stationary.
    Returns (the row of W_IE, U_IE); any rotation of U_IE's rows serves as well, so no SVD is needed.
    """
    if w_ee.shape[0] < 2:
        raise InputError(f"a layer is normalised over its units, and {w_ee.shape[0]} is too few: 2 or more")
    row = w_ee.mean(0)
    return row, w_ee - row
