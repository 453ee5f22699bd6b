"""Backpropagation: the reference, under the same contract as every other rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from equipoise.rules.base import Rule, Write
from equipoise.rules.circuits import backpropagate, read_stages
from equipoise.rules.descent import unwatched
from equipoise.rules.make import registry

__all__ = ["Backprop"]


@registry.register("bp")
class Backprop(Rule):
    """Backpropagation: exact gradients of the loss, through the transposed forward weights.

        delta_l = f'(z_l) (.) W_{l+1}^T delta_{l+1}

    Source: Rumelhart, Hinton and Williams 1986.
    """

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        self.stages = read_stages(model, self.slots)

    def by_hand(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        write: Write,
        *,
        fresh: bool,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
        if not self.stages or not unwatched(self.model, x):
            return None
        return backpropagate(self.stages, x, y, self.loss, self.options.local_weight, write)
