"""Moments over the units of a layer, and normalisation by them, each half of which can be switched off.

Units lie on axis ``dim`` (the last one; -3 for the channels of an image, at each position). ``count`` is the real
number of units where the axis is padded; padded units hold zero, and stay zero.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.functional.edits import backward_edits

__all__ = ["centred", "mean", "normalise", "real_units", "variance", "wide"]


def wide(z: Tensor) -> Tensor:
    """``z`` in float32 where its own precision is lower: statistics are summed in no less."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def real_units(z: Float[Tensor, "*B"], count: Tensor, dim: int = -1) -> Tensor:
    """A mask along ``dim``, True for the first ``count`` units, that broadcasts with ``z``."""
    index = torch.arange(z.shape[dim], device=z.device) < count
    return index.reshape(-1, *(1,) * (-dim - 1))


def mean(z: Float[Tensor, "*B"], count: Tensor | None = None, *, dim: int = -1, keepdim: bool = False) -> Tensor:
    """The mean over units: sum_k z_k / n."""
    if count is None:
        return z.mean(dim, keepdim=keepdim)
    return z.sum(dim, keepdim=keepdim) / count


def centred(z: Float[Tensor, "*B"], count: Tensor | None = None, *, dim: int = -1) -> Float[Tensor, "*B"]:
    """z less its mean over units; padded units stay 0."""
    moved = z - mean(z, count, dim=dim, keepdim=True)
    return moved if count is None else torch.where(real_units(z, count, dim), moved, 0)


def variance(z: Float[Tensor, "*B"], count: Tensor | None = None, *, dim: int = -1, keepdim: bool = False) -> Tensor:
    """The population variance over units: sum_k (z_k - mean z)^2 / n."""
    return mean(centred(z, count, dim=dim).square(), count, dim=dim, keepdim=keepdim)


def straight(value: Tensor, path: Tensor) -> Tensor:
    """Exactly ``value``, with the derivative of ``path`` (of the same shape)."""
    return value.detach() + (path - path.detach())


def normalise(
    z: Float[Tensor, "*B"],
    *,
    centre: bool = True,
    scale: bool = True,
    eps: float = 1e-5,
    count: Tensor | None = None,
    forward: bool = True,
    backward: bool = True,
    dim: int = -1,
) -> Float[Tensor, "*B"]:
    """Layer normalisation without an affine map, in parts.

        n = (z - m) / sqrt(v + eps),    m, v: mean and population variance over units

    Without ``scale`` n = z - m, without ``centre`` n = z / sqrt(v + eps). forward, backward: which direction is
    normalised. Forward alone gives n and sends the error back unchanged; backward alone gives z and sends the error
    through the Jacobian of n; neither is the identity. Under ``exact_backward`` the value's own derivative is taken.
    """
    if not (forward or backward) or not (centre or scale) or not (forward or backward_edits()):
        return z
    x = wide(z)
    around = centred(x, count, dim=dim)
    n = around if centre else x
    if scale:
        n = n * (mean(around.square(), count, dim=dim, keepdim=True) + eps).rsqrt()
    n = n.to(z.dtype)
    if forward and (backward or not backward_edits()):
        return n
    return straight(n, z) if forward else straight(z, n)
