"""A split that many runs look at through their own indices, so that its images are held once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from equipoise.data import Dataset, Split

__all__ = ["View", "shared"]


@dataclass(frozen=True, eq=False)
class View(Split):
    """The rows ``index`` (int64) of ``source``: taking rows of a view copies labels and indices, never images."""

    source: Split
    index: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> View:
        """All of ``split``, on ``device``."""
        moved = split.to(device)
        rows = torch.arange(len(moved), device=moved.labels.device)
        return cls(moved.images, moved.labels, source=moved, index=rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def to(self, device: torch.device | str) -> Self:
        source = self.source.to(device)
        where = source.labels.device
        return replace(
            self, images=source.images, labels=self.labels.to(where), source=source, index=self.index.to(where)
        )

    def take(self, index: Tensor) -> Self:
        index = index.to(self.index.device)
        return replace(self, labels=self.labels.index_select(0, index), index=self.index.index_select(0, index))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.source.batch(self.index.index_select(0, index.to(self.index.device)))

    def ahead(self, index: Tensor) -> None:
        self.source.ahead(self.index.index_select(0, index.to(self.index.device)))

    def check_images(self) -> None:
        self.source.check_images()


def _is_on(tensor: Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def shared(dataset: Dataset, device: torch.device) -> Dataset:
    """``dataset`` with splits that many runs can cut up without a copy of its images."""
    return replace(dataset, train=View.of(dataset.train, device), test=View.of(dataset.test, device))
