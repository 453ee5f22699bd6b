"""More augmentation of whole batches: windows resized, turned, shifted and covered pictures, frames left out.

As in ``augment``: numbers are drawn on the generator's device, so many whatever they turn out to be, and frames
(B, T, C, H, W) share one draw over time. Labels stay what they were as long as they do not depend on place or size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.data.augment import pictures
from equipoise.errors import InputError

__all__ = ["cutout", "hole", "resized_crop", "roll", "rotate", "temporal_delete"]


def resized_crop(images: Tensor, generator: torch.Generator, *, smallest: float = 0.08) -> Tensor:
    """A random window of every picture, resized to the whole picture's size, bilinear.

    The window has a share a ~ U(smallest, 1) of the area and the aspect r, log r ~ U(log 3/4, log 4/3): it is
    min(1, sqrt(a r)) of the width and min(1, sqrt(a / r)) of the height, at a place uniform among those inside.
    """
    flat = pictures(images, "cropped")
    area, aspect, left, top = _uniform(4, images, generator)
    area, aspect = smallest + (1 - smallest) * area, torch.exp((2 * aspect - 1) * math.log(4 / 3))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    # Coordinates from -1 to 1: the window's centre lies (1 - width) at most from the middle.
    across, down = (1 - width) * (2 * left - 1), (1 - height) * (2 * top - 1)
    zero = torch.zeros_like(width)
    return _sampled(flat, [[width, zero, across], [zero, height, down]], "border").view(images.shape)


def rotate(images: Tensor, generator: torch.Generator, *, degrees: float = 30.0) -> Tensor:
    """Every picture turned about its middle by an angle of U(-degrees, degrees), bilinear; zeros come in at corners."""
    flat = pictures(images, "rotated")
    angle = (2 * _uniform(1, images, generator)[0] - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    height, width = flat.shape[2:]
    law = [[cos, -sin * (height / width), zero], [sin * (width / height), cos, zero]]
    return _sampled(flat, law, "zeros").view(images.shape)


def roll(images: Tensor, generator: torch.Generator, *, furthest: int = 5) -> Tensor:
    """Every picture shifted by dx, dy uniform on -furthest..furthest; what leaves on one side returns on the other.

    out[b, c, i, j] = x[b, c, (i - dy_b) mod H, (j - dx_b) mod W]
    """
    flat = pictures(images, "rolled")
    where = generator.device
    shift = torch.randint(-furthest, furthest + 1, (2, len(images), 1), generator=generator, device=where)
    shift = shift.to(images.device)
    height, width = flat.shape[2:]
    rows = (torch.arange(height, device=images.device) - shift[0]) % height
    columns = (torch.arange(width, device=images.device) - shift[1]) % width
    cells = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]
    return flat.flatten(2).gather(2, cells.expand(-1, flat.shape[1], -1)).view(images.shape)


def cutout(images: Tensor, generator: torch.Generator, *, chance: float = 0.5) -> Tensor:
    """A random box of every picture covered, with the probability ``chance``.

    The box has an area of U(0.02, 0.4) of the picture's and the aspect r, log r ~ U(log 0.4, log 2.5), whole pixels,
    at a place uniform among those inside. It gets one level of U(0, 1) in all channels alike, so it is grey (uint8: of
    0..255); frames get zeros: no events.
    """
    flat = pictures(images, "covered")
    area, aspect, left, top, level, coin = _uniform(6, images, generator)
    aspect = torch.exp((2 * aspect - 1) * math.log(2.5))
    area = (0.02 + 0.38 * area) * (flat.shape[2] * flat.shape[3])
    box = _box(flat, (area / aspect).sqrt().round(), (area * aspect).sqrt().round(), top, left)
    if images.ndim == 5:
        level = torch.zeros_like(level)
    elif not images.is_floating_point():
        level = (level * 255).round()
    covered = torch.where(box, level.to(images.dtype)[:, None, None, None], flat)
    return torch.where((coin < chance)[:, None, None, None], covered, flat).view(images.shape)


def hole(images: Tensor, generator: torch.Generator, *, side: int = 16) -> Tensor:
    """A square of ``side`` pixels, wholly inside, of every picture set to zero."""
    flat = pictures(images, "covered")
    left, top = _uniform(2, images, generator)
    sides = torch.full_like(left, side)
    return flat.masked_fill(_box(flat, sides, sides, top, left), 0).view(images.shape)


def temporal_delete(frames: Tensor, generator: torch.Generator, *, share: float = 0.25) -> Tensor:
    """Frames (B, T, ...) with round(share * T) of each sample's, one at least, left out; the others fill the time.

    K < T frames, drawn by sample, are kept in order; step t shows kept frame number floor(t K / T), so the result has
    T steps and some frames are shown twice. Raises ``InputError`` where fewer than one would be kept.
    """
    if frames.ndim < 3:
        raise InputError(f"{tuple(frames.shape)} has no frames to delete; need (B, T, ...)")
    batch, steps = frames.shape[:2]
    kept = steps - max(1, round(share * steps))
    if kept < 1:
        raise InputError(f"a share of {share} of {steps} frames leaves none; delete fewer, or have more steps")
    order = torch.rand(batch, steps, generator=generator, device=generator.device).argsort(1)
    chosen = order[:, :kept].sort(1).values.to(frames.device)
    shown = chosen[:, torch.arange(steps, device=frames.device) * kept // steps]
    return frames[torch.arange(batch, device=frames.device)[:, None], shown]


def _uniform(count: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """``count`` rows of a number in [0, 1) for each sample, float32 on the images' device."""
    return torch.rand(count, len(images), generator=generator, device=generator.device).to(images.device)


def _box(flat: Tensor, height: Tensor, width: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """(B, 1, H, W): whether a pixel is in a box of these sides, at the shares ``top`` and ``left`` of what is free."""
    inside = []
    for axis, size, place in ((2, height, top), (3, width, left)):
        size = size.clamp(1, flat.shape[axis])
        first = (place * (flat.shape[axis] - size + 1)).floor()[:, None]
        at = torch.arange(flat.shape[axis], device=flat.device)
        inside.append((at >= first) & (at < first + size[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def _sampled(flat: Tensor, law: list[list[Tensor]], padding: str) -> Tensor:
    """The pictures at the places that the affine ``law``, two rows of three numbers a sample, sends each pixel to."""
    theta = torch.stack([torch.stack(row, 1) for row in law], 1)
    kind = flat.dtype if flat.is_floating_point() else torch.float32
    grid = F.affine_grid(theta.to(kind), list(flat.shape), align_corners=False)
    out = F.grid_sample(flat.to(kind), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return out if flat.is_floating_point() else out.round().to(flat.dtype)
