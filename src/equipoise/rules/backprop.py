"""Backpropagation: the reference, under the same contract as every other rule."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from equipoise.rules.base import Credit, Rule
from equipoise.rules.make import registry

__all__ = ["Backprop"]


@registry.register("bp")
class Backprop(Rule):
    """Backpropagation: exact gradients of the loss, through the transposed forward weights.

        delta_l = f'(z_l) (.) W_{l+1}^T delta_{l+1}

    Source: Rumelhart, Hinton and Williams 1986.
    """

    def credit(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> Credit:
        output = self.forward_pass(x, tensors, noise=noise)
        loss = self.loss.value(output, y)
        return Credit(loss, output, [(loss, None)])
