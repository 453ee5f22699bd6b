"""Signed inputs for circuits that take rates: one cell for what is above, one for what is below."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OnOff"]


class OnOff(nn.Module):
    """ON and OFF cells, as in the retina: twice as many inputs, none of them negative.

        on = max(x - c, 0),    off = max(c - x, 0),    so that on - off = x - c

    x (B, N) or (B, C, H, W); the OFF cells follow the ON cells on axis 1 (``dim``). centre: c, the same for all.
    """

    def __init__(self, centre: float = 0.0, *, dim: int = 1) -> None:
        super().__init__()
        self.centre, self.dim = centre, dim

    def forward(self, x: Tensor) -> Tensor:
        """The rates, ``x``'s shape but for axis ``dim``, which is twice as long."""
        above = x - self.centre
        return torch.cat([above.relu(), (-above).relu()], self.dim)

    def extra_repr(self) -> str:
        return f"centre={self.centre}"
