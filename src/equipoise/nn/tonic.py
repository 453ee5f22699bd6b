"""What a converted layer may need beside its circuit: a cell that always fires, and a gain for each unit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Gain", "Tonic"]


class Tonic(nn.Module):
    """One more input that is always 1, so that inhibition sees a bias as well: y = [x, 1] along ``dim``.

    x (..., I), or (B, C, H, W) with ``dim=-3``. A bias c of the drive W x + c becomes the weights from this cell.
    """

    def __init__(self, *, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with one more row of ones."""
        return torch.cat([x, torch.ones_like(x.narrow(self.dim, 0, 1))], self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Gain(nn.Module):
    """A learned gain and bias for each unit, y_k = g_k z_k + b_k.

    z (..., units), or (B, units, H, W) with ``dim=-3``.
    """

    def __init__(self, gain: Tensor, bias: Tensor | None, *, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(gain.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, z: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The scaled activity."""
        shape = (-1, *(1,) * (-self.dim - 1))
        y = z * self.weight.reshape(shape)
        return y if self.bias is None else y + self.bias.reshape(shape)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, dim={self.dim}"
