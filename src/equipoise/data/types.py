"""What a dataset is: two splits of images and labels, checked once, moved and indexed as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["Dataset", "Split", "check"]

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, as tensors on one device.

    images: uint8 (N, C, H, W); a user's own may be floating point, also (N, D) features. Over time: frames
    (N, T, C, H, W), sequences (N, T, D). labels: int64 (N,).
    Splits are shared and memoised: treat their tensors as read-only.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W); over time (T, C, H, W) or (T, D)."""
        return tuple(self.images.shape[1:])

    def to(self, device: torch.device | str) -> Self:
        """The same split on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, index: Tensor) -> Self:
        """The rows in ``index`` (int64, on any device), in that order, as a split of its own."""
        index = index.to(self.labels.device)
        return replace(self, images=self.images.index_select(0, index), labels=self.labels.index_select(0, index))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows in ``index`` as (images, labels) ready for a model.

        images: float32 (B, C, H, W); uint8 is divided by 255, so it lies in [0, 1]; floating point keeps
        its own scale. labels: int64 (B,).
        """
        index = index.to(self.labels.device)
        images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        if images.dtype == torch.uint8:
            return images.to(torch.float32).div_(255), labels
        return images.to(torch.float32), labels

    def ahead(self, index: Tensor) -> None:
        """Say that ``batch(index)`` comes next; splits in memory have nothing to prepare."""

    def check_images(self) -> None:
        """Raise InputError unless the images have a fit shape and dtype and are all finite."""
        images = self.images
        if not isinstance(images, Tensor):
            raise InputError(f"images must be a tensor, not {type(images).__name__}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise InputError(f"images have dtype {_short(images.dtype)}; use uint8 in 0..255, or floating point")
        if not 2 <= images.ndim <= 5:
            raise InputError(
                f"images have shape {tuple(images.shape)}; expected (N, C, H, W), or (N, D) for features; over time "
                "(N, T, C, H, W) or (N, T, D)"
            )
        if 0 in images.shape[1:]:
            raise InputError(f"images have shape {tuple(images.shape)}: one of their sides is zero")
        if images.dtype == torch.uint8:
            return
        for start in range(0, images.shape[0], _CHUNK):
            finite = torch.isfinite(images[start : start + _CHUNK].to(torch.float32)).flatten(1).all(1)
            if not bool(finite.all()):
                row = start + int((~finite).nonzero()[0])
                raise InputError(f"image {row} holds NaN or infinite values; clean the images before training")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split with the names of their classes; ``note`` belongs beside every number.

    handed: mirroring a sample changes its class, as with gestures of the left and the right hand. upright: turning it
    does, as with directions of motion. Augmentation that would do so is refused.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    note: str = ""
    handed: bool = False
    upright: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W)."""
        return self.train.shape

    def to(self, device: torch.device | str) -> Self:
        """The same dataset with both splits on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def check(split: Split, classes: Sequence[str] | int) -> None:
    """Raise InputError unless ``split`` can be trained on with these classes (their names, or how many).

    It looks at types, shapes, dtypes, counts, emptiness, NaN and infinity, and the range of the labels.
    """
    count = classes if isinstance(classes, int) else len(classes)
    if not isinstance(split, Split):
        raise InputError(f"a split must be an equipoise.data.Split, not {type(split).__name__}")
    if count < 1:
        raise InputError("a dataset needs at least one class")
    split.check_images()
    labels = split.labels
    if not isinstance(labels, Tensor):
        raise InputError(f"labels must be a tensor, not {type(labels).__name__}")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise InputError(
            f"labels have dtype {_short(labels.dtype)} and shape {tuple(labels.shape)}; "
            "expected one int64 class number per image (for one-hot rows: labels.argmax(1))"
        )
    if labels.shape[0] != split.images.shape[0]:
        raise InputError(f"{split.images.shape[0]} images but {labels.shape[0]} labels; there must be one per image")
    if labels.shape[0] == 0:
        raise InputError("the split is empty; it needs at least one image")
    if labels.device != split.images.device:
        raise InputError(f"images are on {split.images.device}, labels on {labels.device}; move both to one device")
    wrong = (labels < 0) | (labels >= count)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(f"label {int(labels[row])} of image {row} is outside 0..{count - 1} ({count} classes)")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
