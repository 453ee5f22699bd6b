"""Feedback alignment: the error travels down through fixed random matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from torch import nn

from equipoise.rules.base import Options, Rule
from equipoise.rules.make import registry

__all__ = ["AlignmentOptions", "FeedbackAlignment"]


@dataclass(frozen=True)
class AlignmentOptions(Options):
    """Options of ``fa``.

    law: distribution of the feedback (``functional.laws``); scale: a factor on it. inside: what happens within a
    circuit (contract ``Site``): "exact" keeps its inner pathways' derivative, "random" gives them feedback too.
    """

    law: str = "kaiming_uniform"
    scale: float = 1.0
    inside: Literal["exact", "random"] = "exact"


@registry.register("fa")
class FeedbackAlignment(Rule):
    """Feedback alignment: backpropagation with a fixed random matrix in place of each transposed weight.

        delta_l = f'(z_l) (.) B_{l+1}^T delta_{l+1},   B shaped like W, never learned

    Trains any module built from linear, convolution and matrix products, untouched: residual connections, shared
    layers, functional calls. A layer used twice has one B. Normalisation, biases and what acts unit by unit keep
    their exact derivative; any other way back through a weight is refused by its name.
    Source: Lillicrap et al. 2016; feedback of the default law has entries within sqrt(6 / fan-in).
    """

    Options: ClassVar[type[Options]] = AlignmentOptions
    transport = True
    options: AlignmentOptions

    def __init__(self, model: nn.Module, **given: object) -> None:
        super().__init__(model, **given)  # type: ignore[arg-type]
        params = self.slots.parameters()
        for name in self.fed():
            shape = params[name].shape
            fan_in = shape[1:].numel()
            self.keep(name, shape, law=self.options.law, fan_in=fan_in, scale=self.options.scale)

    def fed(self) -> list[str]:
        """Weights of two or more dimensions, but for embeddings, normalisation and circuits' inner pathways."""
        left = self.slots.exact() | self.inner
        return [n for n, p in self.slots.parameters().items() if p.ndim >= 2 and n not in left]

    @cached_property
    def inner(self) -> frozenset[str]:
        """Circuits' parameters that are no projection between layers; none with ``inside="random"``."""
        return frozenset() if self.options.inside == "random" else super().inner
