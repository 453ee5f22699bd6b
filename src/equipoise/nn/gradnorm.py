"""GradNorm as a layer: the error is edited as layer normalisation would, the activity is left alone."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.gradnorm import gradnorm, read_modes
from equipoise.nn.lateral import pooling_weights

__all__ = ["GradNorm"]


class GradNorm(nn.Module):
    """Any part of layer normalisation's backward pass, behind any layer.

        y = z;    dL/dz = edit(dL/dy, z)

    modes: "full", or any of "center", "decorrelate", "scale", "lateral", "decorrelate_raw", as a list or joined by
    "+" ("center+scale"); what each does, and in which order, is in ``functional.gradnorm``. "lateral" needs ``units``,
    and takes its fixed weights from ``pools``, ``law`` and ``seed`` as ``LateralInhibition`` does. z (B, units), or
    (B, units, H, W) with ``dim=-3``. Raises ``InputError`` for an unknown mode.
    """

    nu: Tensor | None
    count: Tensor | None

    def __init__(
        self,
        modes: str | Iterable[str] = "full",
        *,
        units: int | None = None,
        pools: int = 1,
        law: str = "uniform",
        seed: int = 0,
        eps: float = 1e-5,
        dim: int = -1,
    ) -> None:
        super().__init__()
        self.modes, self.eps, self.dim = read_modes(modes), eps, dim
        nu = None
        if "lateral" in self.modes:
            if units is None:
                raise InputError("GradNorm('lateral') draws a weight for each unit: pass units=, the layer's width")
            nu = pooling_weights(units, pools=pools, law=law, seed=seed)
        self.register_buffer("nu", nu)
        self.register_buffer("count", None, persistent=False)

    def forward(self, z: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """``z``."""
        return gradnorm(z, self.modes, nu=self.nu, eps=self.eps, count=self.count, dim=self.dim)

    def counts(self, input: Tensor) -> dict[str, int]:
        """The units that statistics are taken over (``contracts.Counted``)."""
        return {"count": input.shape[self.dim]}

    def extra_repr(self) -> str:
        return repr("+".join(sorted(self.modes)) or "off")
