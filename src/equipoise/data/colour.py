"""Colours changed at random: brightness, contrast, saturation and hue of whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["hue", "jitter"]

# How much of red, green and blue is in the brightness that an eye sees (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def jitter(images: Tensor, generator: torch.Generator, *, strength: float = 0.4) -> Tensor:
    """Brightness, contrast, saturation and hue of every picture changed, in this order, by factors of its own.

        x <- clamp(b x),  x <- clamp(c x + (1 - c) mean(grey(x))),  x <- clamp(s x + (1 - s) grey(x)),  hue(x, h)

    b, c, s ~ U(1 - strength, 1 + strength), h ~ U(-strength/4, strength/4) turns of the colour circle; strength 0.4 is
    the usual (0.4, 0.4, 0.4, 0.1). images (B, 3, H, W) or grey (B, 1, H, W), which has the first two alone; floating
    point in [0, 1]. The order is fixed, not drawn. Raises ``InputError`` for other shapes and for whole numbers.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise InputError(
            f"colours of {tuple(images.shape)} {str(images.dtype).removeprefix('torch.')} cannot be changed; "
            "need floating point (B, 3, H, W), or (B, 1, H, W)"
        )
    drawn = torch.rand(4, len(images), generator=generator, device=generator.device)
    drawn = strength * (2 * drawn - 1).to(images.device, images.dtype)
    brightness, contrast, saturation = (1 + drawn[:3])[:, :, None, None, None]
    images = (brightness * images).clamp(0, 1)
    images = torch.lerp(_grey(images).mean((1, 2, 3), keepdim=True), images, contrast).clamp(0, 1)
    if images.shape[1] == 1:
        return images
    images = torch.lerp(_grey(images), images, saturation).clamp(0, 1)
    return hue(images, drawn[3] / 4)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] with their hue turned by ``turns`` (B,) of the colour circle.

    In the hexagon of hues (HSV): value v = max, chroma k = max - min; with the hue H in sixths of the circle
    x_n = v - k max(0, min(m, 4 - m, 1)), m = (n + H) mod 6, n = 5, 3, 1 for red, green and blue.
    """
    value, brightest = images.max(1)
    chroma = value - images.amin(1)
    red, green, blue = images.unbind(1)
    whole = torch.where(chroma > 0, chroma, 1)
    sixth = torch.stack([(green - blue) / whole, 2 + (blue - red) / whole, 4 + (red - green) / whole])
    sixth = sixth.gather(0, brightest[None])[0] + 6 * turns[:, None, None]
    place = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype)[:, None, None]
    m = (place + sixth[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(m, 4 - m).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
