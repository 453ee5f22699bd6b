"""Layer normalisation without an affine map, in parts: forwards, backwards, or with detached statistics."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.inhibition import inorm
from equipoise.functional.moments import centred, mean, normalise, wide

__all__ = ["DetachNorm", "Normalise"]


class Normalise(nn.Module):
    """Normalisation over units, each half of it switchable.

        y = (z - m) / sqrt(v + eps),    m, v: mean and population variance over units, for each sample

    centre, scale: which of the two is done; scale alone is z / sqrt(v + eps), v still around the mean. forward,
    backward: in which direction; forward alone sends the error back unchanged (the LN- of the I-Norm paper), backward
    alone passes the activity and normalises the error. z (B, units), or (B, units, H, W) with ``dim=-3``.
    """

    count: Tensor | None

    def __init__(
        self,
        *,
        centre: bool = True,
        scale: bool = True,
        forward: bool = True,
        backward: bool = True,
        eps: float = 1e-5,
        dim: int = -1,
    ) -> None:
        super().__init__()
        if not (centre or scale):
            raise InputError("Normalise(centre=False, scale=False) does nothing; use nn.Identity()")
        self.centre, self.scale, self.eps, self.dim = centre, scale, eps, dim
        self.forwards, self.backwards = forward, backward
        self.register_buffer("count", None, persistent=False)

    def forward(self, z: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The normalised activity, or ``z`` where the forward half is off."""
        return normalise(
            z,
            centre=self.centre,
            scale=self.scale,
            eps=self.eps,
            count=self.count,
            forward=self.forwards,
            backward=self.backwards,
            dim=self.dim,
        )

    def counts(self, input: Tensor) -> dict[str, int]:
        """The units that statistics are taken over (``contracts.Counted``)."""
        return {"count": input.shape[self.dim]}

    def extra_repr(self) -> str:
        return f"centre={self.centre}, scale={self.scale}, forward={self.forwards}, backward={self.backwards}"


class DetachNorm(nn.Module):
    """Layer normalisation whose statistics pass no error: what ideal inhibition without GradNorm is.

        y = (z - m) / sqrt(v + eps),    dL/dz = g / sqrt(v + eps)

    z (B, units), or (B, units, H, W) with ``dim=-3``. Source: Xu et al. 2019.
    """

    count: Tensor | None

    def __init__(self, *, eps: float = 1e-5, dim: int = -1) -> None:
        super().__init__()
        self.eps, self.dim = eps, dim
        self.register_buffer("count", None, persistent=False)

    def forward(self, z: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The normalised activity."""
        x = wide(z)
        around = centred(x, self.count, dim=self.dim)
        d = (mean(around.square(), self.count, dim=self.dim, keepdim=True) + self.eps).sqrt()
        return inorm(x, x - around, d).to(z.dtype)

    def counts(self, input: Tensor) -> dict[str, int]:
        """The units that statistics are taken over (``contracts.Counted``)."""
        return {"count": input.shape[self.dim]}

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
