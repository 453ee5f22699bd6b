"""A user's own data: a function named ``package.module:function``, or a loader entered by ``register``.

It returns a ``Dataset``, or ((train images, train labels), (test images, test labels)) as tensors or arrays:
images uint8 in 0..255 or floating point, (N, C, H, W), (N, H, W) for grey or (N, D) for features; labels
integers from 0. With tuples the classes are numbered up to the largest label seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.data.files import reason
from equipoise.data.types import Dataset, Split, check
from equipoise.errors import InputError
from equipoise.user_code import call

__all__ = ["as_dataset", "from_path"]

_FORMS = "a Dataset or ((train images, train labels), (test images, test labels))"


def from_path(name: str) -> Dataset:
    """Call the function ``package.module:function`` without arguments and check what it returns."""
    return as_dataset(call(name), name)


def as_dataset(value: Any, name: str) -> Dataset:
    """``value`` as a dataset whose splits are checked; InputError names the split that does not fit."""
    if not isinstance(value, Dataset):
        value = _from_pairs(value, name)
    if not isinstance(value.classes, tuple) or not all(isinstance(each, str) for each in value.classes):
        raise InputError(f"{name}: classes must be a tuple of strings")
    for part, split in (("train", value.train), ("test", value.test)):
        try:
            check(split, value.classes)
        except InputError as error:
            raise InputError(f"{name}, {part} split: {error}") from error
    if value.train.shape != value.test.shape:
        raise InputError(f"{name}: train images have shape {value.train.shape}, but test images {value.test.shape}")
    return value


def _from_pairs(value: Any, name: str) -> Dataset:
    try:
        (train_x, train_y), (test_x, test_y) = value
    except (TypeError, ValueError):
        raise InputError(f"{name} gave {type(value).__name__}; expected {_FORMS}") from None
    train = Split(_images(train_x, f"{name}, train images"), _labels(train_y, f"{name}, train labels"))
    test = Split(_images(test_x, f"{name}, test images"), _labels(test_y, f"{name}, test labels"))
    largest = max((int(split.labels.max()) for split in (train, test) if len(split)), default=0)
    return Dataset(name, train, test, tuple(str(label) for label in range(max(largest, 0) + 1)))


def _images(value: Any, what: str) -> Tensor:
    images = _tensor(value, what)
    if images.ndim == 4 and images.shape[1] == images.shape[2] > 4 and images.shape[3] in (1, 3):
        raise InputError(f"{what} have shape {tuple(images.shape)}, channels last; use .permute(0, 3, 1, 2)")
    return images[:, None] if images.ndim == 3 else images


def _labels(value: Any, what: str) -> Tensor:
    labels = _tensor(value, what)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        seen = f"dtype {str(labels.dtype).removeprefix('torch.')} and shape {tuple(labels.shape)}"
        raise InputError(f"{what} have {seen}; expected one integer per image (for one-hot rows: labels.argmax(1))")
    return labels.to(torch.int64)


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} are no tensor and no array of numbers ({reason(error)})") from error
