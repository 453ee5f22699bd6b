"""Events of a camera, and the frames that they make: (T, 2, H, W), ON above OFF, brighter above darker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.data.files import Decoded
from equipoise.data.types import Split
from equipoise.errors import InputError, unknown_name

__all__ = ["WAYS", "CountSplit", "Events", "framed", "smaller", "to_frames"]

WAYS = ("count", "time")


@dataclass(frozen=True, eq=False)
class Events:
    """A recording: for each event its column ``x``, row ``y``, time ``t`` in microseconds, and whether it is ON."""

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    on: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: int, end: int) -> Events:
        """The events with start <= t < end."""
        inside = (self.t >= start) & (self.t < end)
        return Events(self.x[inside], self.y[inside], self.t[inside], self.on[inside])


@dataclass(frozen=True, eq=False)
class CountSplit(Split):
    """A split whose uint8 images (N, T, 2, H, W) are numbers of events: ``batch`` gives them as they are."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        return self.images.index_select(0, index).to(torch.float32), self.labels.index_select(0, index)


def to_frames(events: Events, steps: int, by: str, sensor: tuple[int, int]) -> np.ndarray:
    """How many events of each sign each pixel has in each of ``steps`` parts of a recording: (T, 2, H, W) int64.

    by "count": of n events, in their order, the i-th (from 0) is in part floor(i T / n); all parts have as many, one
    more or less. by "time": in part floor((t - first) T / (last + 1 - first)); all parts last as long. Channel 0 is ON.
    sensor: (H, W). Raises ``InputError`` for an event outside of it, or another way.
    """
    if by not in WAYS:
        raise unknown_name("way to make frames of events,", by, WAYS)
    height, width = sensor
    total = len(events)
    frames = np.zeros(steps * 2 * height * width, np.int64)
    if total:
        for name, where, side in (("column", events.x, width), ("row", events.y, height)):
            if where.min() < 0 or where.max() >= side:
                raise InputError(f"an event has the {name} {int(where.max())}; this sensor has 0..{side - 1}")
        if by == "count":
            part = np.arange(total) * steps // total
        else:
            first = int(events.t.min())
            part = (events.t.astype(np.int64) - first) * steps // (int(events.t.max()) + 1 - first)
        off = 1 - events.on.astype(np.int64)
        cells = ((part * 2 + off) * height + events.y.astype(np.int64)) * width + events.x.astype(np.int64)
        frames += np.bincount(cells, minlength=len(frames))
    return frames.reshape(steps, 2, height, width)


def smaller(frames: Tensor, size: int) -> Tensor:
    """Frames (..., H, W) as (..., size, size): each new pixel is the mean over its area, float32.

    Pixels that lie in two new ones count by their share: out = A x B^T, whose rows are overlaps and sum to 1.
    """
    down, across = (_overlaps(side, size) for side in frames.shape[-2:])
    return down @ frames.to(torch.float32) @ across.T


def framed(
    samples: Iterable[tuple[Events, int]], *, frames: int, by: str, size: int, sensor: tuple[int, int]
) -> Decoded:
    """All samples as frames (N, T, 2, size, size) in float16, and their labels."""
    images: list[Tensor] = []
    labels: list[int] = []
    for events, label in samples:
        frame = torch.from_numpy(to_frames(events, frames, by, sensor))
        images.append((frame if sensor == (size, size) else smaller(frame, size)).to(torch.float16))
        labels.append(label)
    return Decoded(torch.stack(images), torch.tensor(labels))


def _overlaps(old: int, new: int) -> Tensor:
    """(new, old): which share of new pixel i lies in old pixel j."""
    edge = torch.arange(new + 1, dtype=torch.float64) * old / new
    left, right = edge[:-1, None], edge[1:, None]
    at = torch.arange(old, dtype=torch.float64)
    shared = (torch.minimum(right, at + 1) - torch.maximum(left, at)).clamp(min=0)
    return (shared / (right - left)).to(torch.float32)
