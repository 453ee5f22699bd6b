"""Moving digits: what an event camera would see of MNIST's digits in motion. Made here, so it needs no recording."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.data import cache
from equipoise.data.files import Decoded
from equipoise.data.frames import CountSplit
from equipoise.data.sets import ImageSet
from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError, unknown_name
from equipoise.randomness import generator

__all__ = ["DIRECTIONS", "moving_digits", "render", "seen"]

DIRECTIONS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
_LABELS = ("digit", "direction")
# Half the side of the box that MNIST's digits fill, in pixels, and the room for chance around the path.
_REACH, _JITTER = 10, 2
_CHUNK = 250
_VERSION = 1


def moving_digits(
    mnist: ImageSet,
    folder: Path | None,
    *,
    frames: int,
    size: int,
    threshold: float,
    label: str,
    samples: int,
    seed: int,
) -> Dataset:
    """The set that these options describe, from the cache or made now out of ``mnist`` in ``folder``.

    The first ``samples`` training and ``samples`` / 5 test digits (0: all) move as ``render`` says, and give events as
    ``seen`` says. label "digit" or "direction"; either way the same events. Raises ``InputError`` for options that
    describe nothing.
    """
    if label not in _LABELS:
        raise unknown_name("label of moving digits,", label, _LABELS)
    least = 2 * (_REACH + _JITTER)
    if frames < 1 or size <= least or not 0 < threshold <= 1 or samples < 0 or 0 < samples < 5:
        raise InputError(
            f"moving digits need frames >= 1, size > {least}, 0 < threshold <= 1 and samples >= 5 or 0 for all; got "
            f"frames={frames}, size={size}, threshold={threshold}, samples={samples}"
        )
    source = mnist(folder)
    found = mnist.find(folder) if folder is not None else None
    paths = found.train + found.test if found is not None else ()
    options = (frames, size, threshold, samples, seed)
    train, test = _made(mnist, folder, paths, cache.fingerprint(paths), options)
    column = _LABELS.index(label)
    classes = source.classes if label == "digit" else DIRECTIONS
    parts = [CountSplit(part.images, part.labels[:, column].contiguous()) for part in (train, test)]
    note = f"events made from {source.name}: {label} as the class" + (f"; {source.note}" if source.note else "")
    return Dataset("moving-digits", parts[0], parts[1], classes, note, handed=True, upright=label == "direction")


@lru_cache(maxsize=2)
def _made(
    mnist: ImageSet,
    folder: Path | None,
    paths: tuple[Path, ...],
    source: str,
    options: tuple[int, int, float, int, int],
) -> tuple[Decoded, Decoded]:
    """Both splits; labels (N, 2) are digit and direction."""
    frames, size, threshold, samples, seed = options
    digest = hashlib.sha256(repr((_VERSION, *options)).encode()).hexdigest()[:8]
    dataset = mnist(folder)
    made = []
    for part, split, count in (("train", dataset.train, samples), ("test", dataset.test, samples // 5)):
        taken = split.take(torch.arange(min(count or len(split), len(split))))

        def make(_: tuple[Path, ...], part: str = part, taken: Split = taken) -> Decoded:
            path, direction, inverse = _draw(len(taken), size, generator(seed, "moving-digits", part))
            images = torch.empty(len(taken), frames, 2, size, size, dtype=torch.uint8)
            for start in range(0, len(taken), _CHUNK):
                rows = slice(start, start + _CHUNK)
                light = render(taken.images[rows, 0] / 255, path[rows], inverse[rows], frames=frames, size=size)
                images[rows] = seen(light, threshold)
            return Decoded(images, torch.stack([taken.labels, direction], 1))

        made.append(cache.through(f"moving-digits-{part}-{digest}", paths, source, make))
    return made[0], made[1]


def _draw(count: int, size: int, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Paths (N, 4): middle (x, y) and half the way (x, y) in pixels; directions (N,); contrasts (N,), True: dark digit.

    The angle is that of one of eight directions, give or take 10 degrees; the way leaves the digit inside the frame.
    """
    direction = torch.randint(8, (count,), generator=stream)
    inverse = torch.randint(2, (count,), generator=stream).bool()
    turn, length, *middle = torch.rand(4, count, generator=stream)
    angle = math.pi / 4 * direction + math.radians(10) * (2 * turn - 1)
    half = (size / 2 - _REACH - _JITTER) * (0.7 + 0.3 * length)
    place = _JITTER * (2 * torch.stack(middle, 1) - 1)
    # Rows are counted downwards, so that north is a smaller y.
    way = half[:, None] * torch.stack([angle.cos(), -angle.sin()], 1)
    return torch.cat([place, way], 1), direction, inverse


def render(digits: Tensor, path: Tensor, inverse: Tensor, *, frames: int, size: int) -> Tensor:
    """Brightness in [0, 1] at T + 1 moments: (N, T + 1, size, size), bilinear, of digits (N, h, w) in [0, 1].

    At moment k the digit's centre is at middle + (2 k / T - 1) way, from the frame's centre, in pixels; ``path`` (N, 4)
    holds both. ``inverse`` (N,): a dark digit on bright ground, 1 - x.
    """
    count, height, width = digits.shape
    moments = 2 * torch.arange(frames + 1) / frames - 1
    centre = path[:, None, :2] + moments[None, :, None] * path[:, None, 2:]
    across, down = (torch.arange(size) - (size - 1) / 2 for _ in range(2))
    # Where each pixel looks, in the digit's own coordinates from -1 to 1 (edge to edge).
    x = (across - centre[..., 0, None]) * (2 / width)
    y = (down - centre[..., 1, None]) * (2 / height)
    grid = torch.stack([x[:, :, None, :].expand(-1, -1, size, -1), y[:, :, :, None].expand(-1, -1, -1, size)], -1)
    shown = digits[:, None].expand(-1, frames + 1, -1, -1).reshape(-1, 1, height, width)
    light = F.grid_sample(shown, grid.flatten(0, 1), padding_mode="zeros", align_corners=False)
    light = light.view(count, frames + 1, size, size)
    return torch.where(inverse[:, None, None, None], 1 - light, light)


def seen(light: Tensor, threshold: float) -> Tensor:
    """Events of changing brightness (N, T + 1, H, W): uint8 (N, T, 2, H, W), channel 0 ON, 1 OFF.

    A pixel has floor(|d| / threshold) events where its brightness changes by d from one moment to the next, ON for
    d > 0. Each step looks at its own change alone, so a film run backwards has the same events with their signs
    exchanged: a direction of motion cannot be told from frames whose order is lost.
    """
    change = light.diff(dim=1)
    # Half a unit of rounding must not decide: 0.6 / 0.2 is three events.
    count = ((change.abs() / threshold) + 1e-4).floor()
    return torch.stack([count * (change > 0), count * (change < 0)], 2).to(torch.uint8)
