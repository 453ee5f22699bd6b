"""Small event data that need no file: the embedded digits in motion."""

from __future__ import annotations

from functools import lru_cache

import torch

from equipoise import data
from equipoise.data import moving
from equipoise.data.frames import CountSplit
from equipoise.randomness import generator

__all__ = ["digit_events"]

STEPS, SIZE = 5, 12
COUNTS = {"train": 300, "test": 100}


@lru_cache(maxsize=1)
def digit_events() -> data.Dataset:
    """Events of scikit-learn's digits that move through a frame: (5, 2, 12, 12), 10 classes, for smoke runs."""
    whole = data.load("digits")
    parts = []
    for name, every in (("train", whole.train), ("test", whole.test)):
        split = every.take(torch.arange(COUNTS[name]))
        angle = 2 * torch.pi * torch.rand(len(split), generator=generator("digit events", name))
        path = torch.stack([torch.zeros_like(angle), torch.zeros_like(angle), 2 * angle.cos(), 2 * angle.sin()], 1)
        dark = torch.zeros(len(split), dtype=torch.bool)
        light = moving.render(split.images[:, 0] / 255, path, dark, frames=STEPS, size=SIZE)
        parts.append(CountSplit(moving.seen(light, 0.2), split.labels))
    return data.Dataset("digit-events", parts[0], parts[1], whole.classes, "events made from digits", handed=True)
