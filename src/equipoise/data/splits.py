"""Which samples are held out, and in which order they are visited: pure functions of a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.data.types import Split
from equipoise.errors import InputError
from equipoise.randomness import generator

__all__ = ["hold_out", "order"]


def hold_out(split: Split, fraction: float, *, seed: int) -> tuple[Split, Split]:
    """Divide ``split`` into (train, validation); validation gets round(N * fraction) drawn by ``seed``.

    The two are disjoint, together hold every sample, and keep the split's order. ``fraction`` 0 holds nothing
    out and leaves the validation split empty. Raises InputError for a fraction outside [0, 1), or for one
    that leaves either part empty.
    """
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"the validation fraction is {fraction}; it must lie in [0, 1)")
    total = len(split)
    held = round(total * fraction)
    if fraction > 0 and not 0 < held < total:
        raise InputError(f"a validation fraction of {fraction} takes {held} of {total} samples; both parts need some")
    permutation = torch.randperm(total, generator=generator(seed, "hold_out", total))
    return split.take(permutation[held:].sort().values), split.take(permutation[:held].sort().values)


def order(n: int, *, seed: int, epoch: int) -> Tensor:
    """The permutation of 0..n-1 in which epoch ``epoch`` visits the samples: int64 (n,), on the CPU.

    It depends on (n, seed, epoch) alone, so a resumed run needs no saved state to go on as before.
    """
    if n < 0:
        raise InputError(f"cannot order {n} samples")
    return torch.randperm(n, generator=generator(seed, "order", n, epoch))
