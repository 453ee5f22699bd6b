"""Encoded images to uint8 pixels, with the image named when it cannot be decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from equipoise.data.files import damaged, needs, reason

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FITS", "JPEG", "centre_crop", "decode", "decode_all", "exact", "pool", "require_pillow", "squash"]

JPEG = b"\xff\xd8\xff"
# Pillow releases the GIL only inside the codec: for thumbnails threads are slower than a plain loop
# (32 x 32: 64 against 51 microseconds an image on two cores), for photographs they pay.
_WORTH_A_THREAD = 8192
_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, without importing Pillow for it


def require_pillow() -> None:
    """Raise InputError with the command that installs Pillow, if it is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise needs("decoding images", "pillow", "data") from error


def pool() -> ThreadPoolExecutor:
    """A small pool for decoding: one thread a core, at most eight."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def exact(shape: tuple[int, int, int]) -> Callable[[Image.Image], Image.Image]:
    """A fitter that changes no pixel and refuses an image of another height or width than ``shape``'s."""
    _, height, width = shape

    def fit(image: Image.Image) -> Image.Image:
        if image.size != (width, height):
            raise ValueError(f"it has {image.size[1]} x {image.size[0]} pixels, not {height} x {width}")
        return image

    return fit


def centre_crop(size: int) -> Callable[[Image.Image], Image.Image]:
    """A fitter that resizes the shorter side to size * 8 / 7 (256 for 224) and cuts the central square."""
    shorter = round(size * 8 / 7)

    def fit(image: Image.Image) -> Image.Image:
        width, height = image.size
        scale = shorter / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        left, top = (width - size) // 2, (height - size) // 2
        return image.resize((width, height), _BILINEAR).crop((left, top, left + size, top + size))

    return fit


def squash(size: int) -> Callable[[Image.Image], Image.Image]:
    """A fitter that resizes the whole image to size x size, whatever its sides were."""
    return lambda image: image.resize((size, size), _BILINEAR)


FITS: dict[str, Callable[[int], Callable[[Image.Image], Image.Image]]] = {"crop": centre_crop, "squash": squash}


def decode(
    encoded: bytes, channels: int, fit: Callable[[Image.Image], Image.Image], where: Callable[[], str]
) -> np.ndarray:
    """One image as uint8 (H, W) or (H, W, 3); StorageError names ``where`` if that cannot be had."""
    from PIL import Image

    try:
        with Image.open(BytesIO(encoded)) as image:
            return np.asarray(fit(image.convert("L" if channels == 1 else "RGB")))
    except Exception as error:  # a broken image makes Pillow raise nearly anything
        raise damaged(where(), f"its {len(encoded)} bytes are no usable image ({reason(error)})") from error


def decode_all(
    count: int,
    fetch: Callable[[int], bytes],
    shape: tuple[int, int, int],
    fit: Callable[[Image.Image], Image.Image],
    *,
    where: Callable[[int], str],
) -> Tensor:
    """The images ``fetch(0)`` ... ``fetch(count - 1)`` as uint8 (count, C, H, W); large ones by threads."""
    require_pillow()
    channels, height, width = shape
    pixels = np.empty((count, height, width, channels), np.uint8)

    def work(rows: Iterable[int]) -> None:
        for row in rows:
            array = decode(fetch(row), channels, fit, lambda row=row: where(row))
            pixels[row] = array.reshape(height, width, channels)

    if count and len(fetch(0)) >= _WORTH_A_THREAD:
        with pool() as threads:
            for done in [threads.submit(work, range(start, count, 8)) for start in range(8)]:
                done.result()
    else:
        work(range(count))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
