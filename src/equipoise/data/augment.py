"""Augmentation of whole batches on their own device, by an explicit generator: windows and mirrors.

The numbers are drawn on the generator's device and then moved, so a CPU generator gives the same crops on
every device. How much is drawn depends only on the number of samples. Frames (B, T, C, H, W) are moved as pictures
of T C channels are: one draw for all steps of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.errors import InputError

__all__ = ["crop", "crop_flip", "flip", "pictures"]


def crop_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Pad every image with zeros, cut a window of the old size at a random place, mirror it half of the time.

    out[b, c, i, j] = padded[b, c, dy_b + i, dx_b + (W - 1 - j if mirrored_b else j)], dy, dx uniform on
    0..2 * padding. images: (B, C, H, W) or (B, T, C, H, W), uint8 or floating point; the result has their dtype and
    device. The same as ``crop`` and then ``flip``.
    """
    pictures(images)
    offset = _offsets(images, generator, padding)
    return _window(images, offset, padding, mirrored=_coin(images, generator))


def crop(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Pad every image with zeros and cut a window of the old size at a random place, as ``crop_flip`` does."""
    pictures(images)
    return _window(images, _offsets(images, generator, padding), padding)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right with probability one half. images: (B, [T,] C, H, W), of any dtype."""
    pictures(images)
    coin = _coin(images, generator).reshape(-1, *(1,) * (images.ndim - 1))
    return torch.where(coin, images.flip(-1), images)


def pictures(images: Tensor, what: str = "cropped or flipped") -> Tensor:
    """``images`` as (B, C, H, W): frames (B, T, C, H, W) have T C channels; ``InputError`` for other shapes."""
    if images.ndim not in (4, 5):
        raise InputError(
            f"images of shape {tuple(images.shape)} cannot be {what}; need (B, C, H, W), or (B, T, C, H, W)"
        )
    return images if images.ndim == 4 else images.flatten(1, 2)


def _offsets(images: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    if padding < 0:
        raise InputError(f"padding is {padding}; it must be zero or more")
    batch = images.shape[0]
    offset = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=generator.device)
    return offset.to(images.device)


def _window(images: Tensor, offset: Tensor, padding: int, *, mirrored: Tensor | None = None) -> Tensor:
    flat = pictures(images)
    batch, channels, height, width = flat.shape
    columns = torch.arange(width, device=images.device)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    columns = offset[1] + columns
    rows = offset[0] + torch.arange(height, device=images.device)
    cells = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    padded = F.pad(flat, (padding, padding, padding, padding)).flatten(2)
    cells = cells.reshape(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.gather(2, cells).view(images.shape)


def _coin(images: Tensor, generator: torch.Generator) -> Tensor:
    coin = torch.randint(0, 2, (images.shape[0],), generator=generator, device=generator.device)
    return coin.to(images.device).bool()
