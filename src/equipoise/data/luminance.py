"""Changing light: every image brighter or darker, or of more or less contrast, than it was taken.

Training draws anew for every image and epoch. What is held out keeps one shift per image, a function of a seed, so
that networks are compared on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from equipoise.data.types import Split
from equipoise.errors import InputError, unknown_name
from equipoise.randomness import generator

__all__ = ["LitSplit", "Luminance"]


@dataclass(frozen=True)
class Luminance:
    """A law of changing light over images with pixels in [0, 1].

        x' = clamp(m + g (x - m) + s, 0, 1),    s ~ U(-shift, shift),  g ~ U(1 - contrast, 1 + contrast)

    one s and one g for each image, m being the image's mean. shift: the paper's range epsilon, in [0, 1]; contrast: a
    second perturbation, beyond the paper, in [0, 1]. ``seed`` decides what held-out images look like. Nothing is
    normalised afterwards. Raises ``InputError`` for a range outside [0, 1]. Source: I-Norm paper, section 4.1.
    """

    shift: float = 0.0
    contrast: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "contrast"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"'{name}' of changing light is {value!r}; give a number from 0 to 1")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"'seed' of changing light is {self.seed!r}; give a whole number, 0 or more")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Luminance | None:
        """The law that a table such as {"shift": 0.75} describes; None where nothing would change."""
        known = [field.name for field in fields(cls)]
        for key in table:
            if key not in known:
                raise unknown_name("perturbation", str(key), known)
        law = cls(**table)
        return law if law.shift or law.contrast else None

    def draw(self, count: int, stream: torch.Generator) -> Tensor:
        """Shift and gain for each of ``count`` images, (2, count) float32 on the CPU."""
        unit = 2 * torch.rand(2, count, generator=stream) - 1
        return torch.stack([self.shift * unit[0], 1 + self.contrast * unit[1]])

    def __call__(self, images: Tensor, stream: torch.Generator) -> Tensor:
        """``images`` (B, ...) under light that is drawn now."""
        return self.apply(images, self.draw(len(images), stream))

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """``images`` (B, ...) under the light ``drawn`` (2, B); pixels leave [0, 1] nowhere."""
        shift, gain = drawn.to(images).reshape(2, -1, *(1,) * (images.ndim - 1))
        if self.contrast:
            mean = images.mean(tuple(range(1, images.ndim)), keepdim=True)
            images = mean + gain * (images - mean)
        return (images + shift).clamp_(0, 1)

    def fixed(self, split: Split, name: str) -> LitSplit:
        """``split`` in light that is drawn once; the same for every split of this ``name`` and length.

        Raises ``InputError`` for images with pixels outside [0, 1], which would be clamped away.
        """
        images = split.images
        if images.is_floating_point() and len(split) and (float(images.min()) < 0 or float(images.max()) > 1):
            raise InputError(
                f"changing light needs pixels in [0, 1]; these images reach from {float(images.min()):.3g} to "
                f"{float(images.max()):.3g}: give them unstandardised"
            )
        drawn = self.draw(len(split), generator(self.seed, "light", name))
        return LitSplit(split.images, split.labels, source=split, law=self, drawn=drawn.to(split.labels.device))


@dataclass(frozen=True, eq=False)
class LitSplit(Split):
    """A split whose every image has a light of its own, as ``drawn`` (2, N) says; ``source`` holds the images."""

    source: Split
    law: Luminance
    drawn: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def to(self, device: torch.device | str) -> Self:
        source = self.source.to(device)
        return replace(
            self, images=source.images, labels=source.labels, source=source, drawn=self.drawn.to(source.labels.device)
        )

    def take(self, index: Tensor) -> Self:
        source = self.source.take(index)
        drawn = self.drawn.index_select(1, index.to(self.drawn.device))
        return replace(self, images=source.images, labels=source.labels, source=source, drawn=drawn)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self.source.batch(index)
        return self.law.apply(images, self.drawn.index_select(1, index.to(self.drawn.device))), labels

    def check_images(self) -> None:
        self.source.check_images()
