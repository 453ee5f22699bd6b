"""Augmentation of whole batches on their own device, by an explicit generator.

The numbers are drawn on the generator's device and then moved, so a CPU generator gives the same crops on
every device. How much is drawn depends only on the number of images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.errors import InputError

__all__ = ["crop_flip", "flip"]


def crop_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Pad every image with zeros, cut a window of the old size at a random place, mirror it half of the time.

    out[b, c, i, j] = padded[b, c, dy_b + i, dx_b + (W - 1 - j if mirrored_b else j)], dy, dx uniform on
    0..2 * padding. images: (B, C, H, W), uint8 or floating point; the result has their dtype and device.
    """
    _check(images)
    if padding < 0:
        raise InputError(f"padding is {padding}; it must be zero or more")
    batch, channels, height, width = images.shape
    where = generator.device
    offset = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=where)
    offset, mirrored = offset.to(images.device), _coin(images, generator)
    columns = torch.arange(width, device=images.device)
    columns = offset[1] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    rows = offset[0] + torch.arange(height, device=images.device)
    cells = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    padded = F.pad(images, (padding, padding, padding, padding)).flatten(2)
    cells = cells.reshape(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.gather(2, cells).view(images.shape)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right with probability one half. images: (B, C, H, W), of any dtype."""
    _check(images)
    return torch.where(_coin(images, generator)[:, None, None, None], images.flip(3), images)


def _coin(images: Tensor, generator: torch.Generator) -> Tensor:
    coin = torch.randint(0, 2, (images.shape[0],), generator=generator, device=generator.device)
    return coin.to(images.device).bool()


def _check(images: Tensor) -> None:
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)} cannot be cropped or flipped; need (B, C, H, W)")
