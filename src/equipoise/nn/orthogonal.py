"""Square layers whose matrix cannot leave the orthogonal ones: a parametrisation instead of a penalty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from equipoise.errors import InputError
from equipoise.functional.orthogonal import retract
from equipoise.nn.invertible import InvertibleConv2d, InvertibleLinear

__all__ = ["Rotation", "hold_orthogonal_"]


class Rotation(nn.Module):
    """An orthogonal matrix as a function of any matrix, for ``torch.nn.utils.parametrize``.

        A = B exp(X - X^T),    B orthogonal and fixed, X (n, n) learns from 0

    B is the orthogonal matrix nearest to the weight that it takes over. A kernel's A is its (C k k, C k k) matrix.
    """

    base: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        self.register_buffer("base", weight.detach().flatten(1).clone())

    def forward(self, original: Tensor) -> Tensor:
        """The weight, from what learns."""
        return (self.base @ torch.linalg.matrix_exp(original - original.T)).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What gives the orthogonal weight nearest to ``weight``: X = 0, with B moved there."""
        self.base.copy_(retract(weight.detach().flatten(1)))
        return torch.zeros_like(self.base)


def hold_orthogonal_(model: nn.Module) -> list[str]:
    """Give every ``InvertibleLinear`` and ``InvertibleConv2d`` of ``model`` an orthogonal matrix for good; their names.

    Then A^-1 = A^T at every step, and rule 'bp' itself is target propagation: nothing is to be inverted or penalised.
    Each read of a weight costs a matrix exponential, some ten products of n^3; ``parametrize.cached()`` shares it. Make
    the optimiser afterwards. First layers stay as they are. Raises ``InputError`` where there is no such layer.
    """
    held = []
    for name, layer in model.named_modules():
        if isinstance(layer, (InvertibleLinear, InvertibleConv2d)) and not layer.first:
            if not parametrize.is_parametrized(layer, "weight"):
                parametrize.register_parametrization(layer, "weight", Rotation(layer.weight))
            held.append(name)
    if not held:
        raise InputError(
            "the model has no InvertibleLinear or InvertibleConv2d to hold; widen it by nn.invertible first"
        )
    return held
