"""GAIT: targets so close to the activities that what they teach is backpropagation, through inverses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from equipoise.rules.base import Options, Rule, Write
from equipoise.rules.descent import descend, unwatched
from equipoise.rules.inverses import InverseOptions, Inverted
from equipoise.rules.make import registry

__all__ = ["Gait", "GaitOptions"]


@dataclass(frozen=True)
class GaitOptions(InverseOptions):
    """Options of ``gait``."""

    mode: Literal["difference", "perturbation"] = "difference"
    gamma: float = 1e-3
    eta: float = 1e-7
    normalised: bool = True
    normaliser: Literal["rms", "literal"] = "rms"
    multiplier: bool = True


@registry.register("gait")
class Gait(Inverted):
    """Target propagation whose targets lie so close to the activities that their differences are gradients.

        d_{l-1} = W_l^{-1} (f'(z_l) (.) d_l),   d_l = t_l - a_l

    Source: Ahmad, van Gerven and Ambrogioni 2020; Dalm, Ahmad, Ambrogioni and van Gerven 2021.
    """

    Options: ClassVar[type[Options]] = GaitOptions
    options: GaitOptions

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        # Local objectives need autograd.
        self.forward_only = not self.slots.listeners  # type: ignore[misc]

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
        if fresh and (not self.forward_only or not unwatched(self.model, x)):
            return None

        def carry(k: int, g: Tensor, error: Tensor, h: Tensor) -> Tensor:
            return self.carried(self.by_number[k], g, h, tensors, feedback)

        return descend(self.links, x, y, tensors, noise, self.loss, carry, write, pure=not fresh)

    def exact(self) -> Rule:
        """The same rule with solved inverses: what an approximate one is compared with."""
        rule = type(self)(self.model, loss=self.loss, seed=self.seed, options=replace(self.options, inverse="solve"))
        rule.survey = self.survey
        return rule
