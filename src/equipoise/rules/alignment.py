"""Feedback alignment: the error travels down through fixed random matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from equipoise.rules.base import Credit, Options, Rule, Write
from equipoise.rules.descent import dense_links, descend, unwatched
from equipoise.rules.make import registry

__all__ = ["AlignmentOptions", "FeedbackAlignment", "Transported"]


@dataclass(frozen=True)
class AlignmentOptions(Options):
    """Options of ``fa``.

    law: distribution of the feedback (``functional.laws``); scale: a factor on it. inside: what happens within a
    circuit (contract ``Site``): "exact" keeps its inner pathways' derivative, "random" gives them feedback too.
    """

    law: str = "kaiming_uniform"
    scale: float = 1.0
    inside: Literal["exact", "random"] = "exact"


class Transported(Rule):
    """A rule that is backpropagation through other backward weights: B shaped like W, for each weight of a layer."""

    transport = True
    draws: ClassVar[bool] = False

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        self.links = dense_links(model, self.slots)
        if self.draws:
            params, options = self.slots.parameters(), self.options
            for name in self.fed():
                shape = params[name].shape
                self.keep(name, shape, law=options.law, fan_in=shape[1:].numel(), scale=options.scale)  # type: ignore[attr-defined]

    def fed(self) -> list[str]:
        """Weights of two or more dimensions, but for embeddings, normalisation and circuits' inner pathways."""
        left = self.slots.exact() | self.inner
        return [n for n, p in self.slots.parameters().items() if p.ndim >= 2 and n not in left]

    def transported(
        self, tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The backward weights of this batch by parameter name."""
        return feedback

    def credit(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> Credit:
        return super().credit(x, y, tensors, self.transported(tensors, feedback, noise), noise)

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
    ) -> tuple[Tensor, Tensor] | None:
        if not self.links or not unwatched(self.model, x):
            return None
        self._same_rates(self.links)
        matrices = self.transported(tensors, feedback, noise)

        def carry(k: int, g: Tensor, error: Tensor, h: Tensor) -> Tensor:
            matrix = torch.as_tensor(matrices[self.links[k].weight])
            return g @ matrix[: g.shape[-1]].to(g.dtype)

        return descend(self.links, x, y, tensors, noise, self.loss, carry, write)


@registry.register("fa")
class FeedbackAlignment(Transported):
    """Feedback alignment: backpropagation with a fixed random matrix in place of each transposed weight.

        delta_l = f'(z_l) (.) B_{l+1}^T delta_{l+1},   B shaped like W, never learned

    Trains any module built from linear, convolution and matrix products, untouched: residual connections, shared
    layers, functional calls. A layer used twice has one B. Normalisation, biases and what acts unit by unit keep
    their exact derivative; any other way back through a weight is refused by its name.
    Source: Lillicrap et al. 2016; feedback of the default law has entries within sqrt(6 / fan-in).
    """

    Options: ClassVar[type[Options]] = AlignmentOptions
    draws = True
    options: AlignmentOptions

    @cached_property
    def inner(self) -> frozenset[str]:
        """Circuits' parameters that are no projection between layers; none with ``inside="random"``."""
        return frozenset() if self.options.inside == "random" else super().inner
