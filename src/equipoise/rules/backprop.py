"""Backpropagation: the reference, under the same contract as every other rule."""

from __future__ import annotations

from equipoise.rules.base import Rule
from equipoise.rules.make import registry

__all__ = ["Backprop"]


@registry.register("bp")
class Backprop(Rule):
    """Backpropagation: exact gradients of the loss, through the transposed forward weights.

        delta_l = f'(z_l) (.) W_{l+1}^T delta_{l+1}

    Source: Rumelhart, Hinton and Williams 1986.
    """
