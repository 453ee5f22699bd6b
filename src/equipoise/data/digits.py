"""The embedded set: scikit-learn's handwritten digits, real images that need no file and no network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from equipoise.data.types import Dataset, Split
from equipoise.randomness import generator

__all__ = ["TEST_PER_CLASS", "digits"]

TEST_PER_CLASS = 36


def digits(folder: Path | None = None) -> Dataset:
    """Handwritten digits from scikit-learn, 1x8x8 grey, 10 classes, 1,437 + 360 images, embedded."""
    return _digits()


@lru_cache(maxsize=1)
def _digits() -> Dataset:
    """The 1,797 images of ``sklearn.datasets.load_digits``; their values 0..16 become round(v * 255 / 16).

    scikit-learn has no test set of its own: 36 images of each class, drawn once by a fixed seed, are the test
    split of 360, the other 1,437 the training split. The seed of a run does not move them.
    """
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = (torch.as_tensor(pixels).view(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    labels = torch.as_tensor(target).to(torch.int64)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        members = (labels == label).nonzero()[:, 0]
        draw = torch.randperm(len(members), generator=generator("digits", "test", label))
        held[members[draw[:TEST_PER_CLASS]]] = True
    whole = Split(images, labels)
    return Dataset(
        name="digits",
        train=whole.take((~held).nonzero()[:, 0]),
        test=whole.take(held.nonzero()[:, 0]),
        classes=tuple(str(label) for label in range(10)),
    )
