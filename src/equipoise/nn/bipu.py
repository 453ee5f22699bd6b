"""The bipower unit as a module."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equipoise.functional.bipu import bipu

__all__ = ["BiPU"]


class BiPU(nn.Module):
    """A power of the input with a factor of its own on each side of 0 (``functional.bipu``).

        f(x) = C x^c  for x >= 0,     D |x|^c  for x < 0

    Any shape in, the same shape out. Raises ``InputError`` unless c > 0.
    """

    def __init__(self, c: float, C: float = 1.0, D: float = 0.0) -> None:
        super().__init__()
        self.c, self.C, self.D = float(c), float(C), float(D)
        bipu(torch.zeros(()), self.c, self.C, self.D)

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The unit's output, shaped like ``x``."""
        return bipu(x, self.c, self.C, self.D)

    def extra_repr(self) -> str:
        return f"c={self.c:g}, C={self.C:g}, D={self.D:g}"
