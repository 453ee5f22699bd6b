"""A linear layer of excitatory cells alone: Dale's law in its simplest form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from equipoise.contracts import Constraint
from equipoise.functional.constraints import NonNegative

__all__ = ["ExcitatoryLinear"]


class ExcitatoryLinear(nn.Module):
    """A linear layer whose weights stay non-negative: every presynaptic cell excites.

        y = x W^T + b,   W >= 0

    x (B, I), y (B, O), dimensionless. Weights start at |U(-1/sqrt(I), 1/sqrt(I))|; hold them there with
    ``nn.enforce(optimizer, model)``. The excitation-only control of Dale networks.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.constraints: dict[str, Constraint] = {"weight": NonNegative()}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew from torch's global state, as torch's own layers do."""
        bound = self.in_features**-0.5
        with torch.no_grad():
            self.weight.uniform_(-bound, bound).abs_()

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """The layer's output (..., O) for an input (..., I)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
