"""ZCA whitening: pixels are made uncorrelated and of equal variance, with images that still look like themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.data.types import Split
from equipoise.errors import InputError

__all__ = ["Whitening", "whitening"]

# More pixels than this make the d x d matrix and its eigenvectors a matter of gigabytes and hours.
_PIXELS = 8192
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted linear map of images: mean (d,) and matrix (d, d), symmetric, both float32 on the CPU."""

    mean: Tensor
    matrix: Tensor

    def images(self, images: Tensor) -> Tensor:
        """x -> matrix (x - mean) for each image: float32, of the same shape, (B, C, H, W) or (B, D)."""
        return torch.mm(images.flatten(1).to(self.mean) - self.mean, self.matrix).view(images.shape)

    def split(self, split: Split) -> Split:
        """``split`` with its images replaced by whitened ones, in memory, as float32."""
        return Split(torch.cat([self.images(images) for images in _chunks(split)]), split.labels.cpu())


def whitening(split: Split, eps: float) -> Whitening:
    """The ZCA map fitted on the images of ``split``, as ``Split.batch`` gives them (pixels in [0, 1]).

        mu = mean(x),  C = mean((x - mu)(x - mu)^T) = U diag(s) U^T,  W = U diag((s + eps)^(-1/2)) U^T

    The whitened images W (x - mu) of that split have the covariance U diag(s / (s + eps)) U^T: directions of a
    variance far above ``eps`` get variance 1, those far below it (pixels that never change) stay near 0.
    Computed in float64 on the CPU; d = C * H * W. Raises ``InputError`` for an eps that is not positive, or for
    images of too many pixels. Source: Bell and Sejnowski 1997.
    """
    size = torch.Size(split.shape).numel()
    if not eps > 0:
        raise InputError(f"whitening needs an eps above 0, not {eps}: pixels that never change have no variance")
    if size > _PIXELS:
        raise InputError(f"images of {size} values are too large to whiten; at most {_PIXELS} are possible")
    total = torch.zeros(size, dtype=torch.float64)
    for images in _chunks(split):
        total += images.flatten(1).double().sum(0)
    mean = total / len(split)
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for images in _chunks(split):
        centred = images.flatten(1).double() - mean
        covariance.addmm_(centred.T, centred, alpha=1 / len(split))
    variances, directions = torch.linalg.eigh(covariance)
    matrix = directions * (variances.clamp(min=0) + eps).rsqrt() @ directions.T
    return Whitening(mean.float(), matrix.float())


def _chunks(split: Split) -> Iterator[Tensor]:
    """The images of ``split`` as float32 on the CPU, a few thousand at a time."""
    for start in range(0, len(split), _CHUNK):
        images, _ = split.batch(torch.arange(start, min(start + _CHUNK, len(split))))
        yield images.cpu()
