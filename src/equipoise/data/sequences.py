"""Pictures shown a row at a time: sequences for networks that keep a memory."""

from __future__ import annotations

from dataclasses import replace

from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError

__all__ = ["rows"]


def rows(dataset: Dataset, name: str) -> Dataset:
    """``dataset`` with each picture (C, H, W) as a sequence of its rows from the top: H frames of C W pixels, (H, C W).

    Raises ``InputError`` for data that are no pictures in memory.
    """
    splits: list[Split] = []
    for split in (dataset.train, dataset.test):
        if type(split) is not Split or split.images.ndim != 4:
            raise InputError(f"'{name}' needs pictures (C, H, W) in memory, and '{dataset.name}' has {split.shape}")
        splits.append(replace(split, images=split.images.transpose(1, 2).flatten(2)))
    return replace(dataset, name=name, train=splits[0], test=splits[1])
