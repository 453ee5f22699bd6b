"""Sign symmetry: feedback that shares the forward weights' signs, and nothing of their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.functional.draws import draw
from equipoise.rules.alignment import Transported
from equipoise.rules.base import Options
from equipoise.rules.make import registry

__all__ = ["BatchMagnitudes", "FixedMagnitudes", "MagnitudeOptions", "UniformMagnitudes", "UniformOptions"]


@dataclass(frozen=True)
class UniformOptions(Options):
    """Options of ``usf``.

    magnitude: of every feedback weight: "he", sqrt(2 / fan-in), which keeps the size of errors from layer to layer,
    or "one", the bare signs of the source, which wants normalisation between the layers. scale: a factor on it.
    """

    magnitude: Literal["he", "one"] = "he"
    scale: float = 1.0


@dataclass(frozen=True)
class MagnitudeOptions(Options):
    """Options of ``frsf`` and ``brsf``: the law whose absolute values are the magnitudes, and a factor on them."""

    law: str = "kaiming_uniform"
    scale: float = 1.0


class SignSymmetric(Transported):
    """Feedback alignment through B = M (.) sign(W), with W's signs of this very step."""

    def magnitude(self, name: str, feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor | float:
        """M of the weight ``name``: a number, or entries >= 0 shaped like it."""
        raise NotImplementedError

    def transported(
        self, tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {n: self.magnitude(n, feedback, noise) * tensors[n].detach().sign() for n in self.fed()}


@registry.register("usf")
class UniformMagnitudes(SignSymmetric):
    """Uniform sign-concordant feedback: every feedback weight has the sign of its forward weight, and one size.

        delta_l = f'(z_l) (.) B_{l+1}^T delta_{l+1},   B = m sign(W),   m = sqrt(2 / fan-in) or 1

    Trains what ``fa`` trains. Source: Liao, Leibo and Poggio 2016 (uSF; there m = 1, with batch norm).
    """

    Options: ClassVar[type[Options]] = UniformOptions
    options: UniformOptions

    def magnitude(self, name: str, feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor | float:
        return self.options.scale * ((2 / self.fan_in(name)) ** 0.5 if self.options.magnitude == "he" else 1.0)


@registry.register("frsf")
class FixedMagnitudes(SignSymmetric):
    """Fixed random-magnitude sign-concordant feedback: random sizes that stay, and the forward weights' signs.

        B = |M| (.) sign(W),   M drawn once, shaped like W

    Trains what ``fa`` trains. Source: Liao, Leibo and Poggio 2016 (frSF).
    """

    Options: ClassVar[type[Options]] = MagnitudeOptions
    draws = True
    options: MagnitudeOptions

    def magnitude(self, name: str, feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        return feedback[name].abs()


@registry.register("brsf")
class BatchMagnitudes(SignSymmetric):
    """Batchwise random-magnitude sign-concordant feedback: random sizes drawn anew for every batch.

        B = |M| (.) sign(W),   M drawn at each step, shaped like W

    Trains what ``fa`` trains; M is part of the noise that ``draw`` gives. Source: Liao, Leibo and Poggio 2016 (brSF).
    """

    Options: ClassVar[type[Options]] = MagnitudeOptions
    of_the_batch = ("magnitude/",)
    options: MagnitudeOptions

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Dropout masks, and the batch's magnitudes by weight."""
        noise = super().draw(x, generator)
        source = generator
        if source is None or source.device.type != "cpu":
            seed = torch.randint(2**62, (), generator=generator, device=x.device).item()
            source = torch.Generator().manual_seed(int(seed))
        for name in self.fed():
            like = self.like(name)
            drawn = draw(like.shape, law=self.options.law, fan_in=like.shape[1:].numel(), generator=source)
            noise[f"magnitude/{name}"] = (drawn.abs() * self.options.scale).to(like.device, like.dtype)
        return noise

    def magnitude(self, name: str, feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        if f"magnitude/{name}" not in noise:
            raise InputError("brsf draws its magnitudes for every batch; pass noise=rule.draw(x, generator)")
        return noise[f"magnitude/{name}"]
