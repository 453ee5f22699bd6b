"""GAIT: targets instead of gradients, carried back through the inverses of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from equipoise.rules.alignment import Transported
from equipoise.rules.base import Options
from equipoise.rules.descent import dense_links
from equipoise.rules.make import registry
from equipoise.rules.square import invertible_chain, squares

__all__ = ["Gait", "GaitOptions"]


@dataclass(frozen=True)
class GaitOptions(Options):
    """Options of ``gait``."""

    mode: Literal["difference", "perturbation"] = "difference"
    gamma: float = 1e-3
    eta: float = 1e-7
    normalised: bool = True
    normaliser: Literal["rms", "literal"] = "rms"
    multiplier: bool = True
    inverse: Literal["solve", "refine", "track", "transpose"] = "solve"
    tolerance: float = 2e-3
    max_refinements: int = 8
    upkeep: Literal["none", "penalty", "decoupled", "probe", "retract"] = "none"
    strength: float = 0.4
    every: int = 1
    off_diagonal: bool = False


@registry.register("gait")
class Gait(Transported):
    """Target propagation whose targets lie so close to the activities that their differences are gradients.

        d_{l-1} = W_l^{-1} (f'(z_l) (.) d_l),   d_l = t_l - a_l

    Source: Ahmad, van Gerven and Ambrogioni 2020; Dalm, Ahmad, Ambrogioni and van Gerven 2021.
    """

    Options: ClassVar[type[Options]] = GaitOptions
    inverts = True
    options: GaitOptions

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        chain = invertible_chain(model, self.slots)
        self.squares = squares(chain, self.slots.parameters())
        self.links = dense_links(model, self.slots, invertible=True)

    def transported(
        self, tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """W^-T in the place of W, for the units that are used."""
        found = {}
        for square in self.squares:
            weight = tensors[square.link.weight].detach()
            matrix = square.matrix(weight)
            if self.options.inverse == "transpose":
                columns = matrix[: square.used]
            else:
                wide = matrix.float() if matrix.dtype in (torch.bfloat16, torch.float16) else matrix
                units = torch.eye(square.units, square.used, dtype=wide.dtype, device=wide.device)
                columns = torch.linalg.solve(wide, units).T.to(matrix.dtype)
            found[square.link.weight] = square.feedback(columns, weight)
        return found
