"""Modules that turn a picture into a sequence, time first; ``functional.encoders`` over them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.functional.encoders import direct_code, latency_code, rate_code
from equipoise.randomness import generator

__all__ = ["Direct", "Latency", "Rate"]


class Direct(nn.Module):
    """The picture (B, ...) at each of T ``steps`` as a current: (T, B, ...)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """The frames."""
        return direct_code(x, self.steps)


class Latency(Direct):
    """One spike a pixel, the earlier the brighter; ``x`` in [0, 1], none where x <= 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The frames."""
        return latency_code(x, self.steps)


class Rate(Direct):
    """Spikes of probability x at each step, ``x`` in [0, 1].

    The k-th batch draws from the stream (seed, k); k is the buffer ``drawn``, so that a resumed run goes on as it would
    have. Pass ``noise``, uniform (T, B, ...), for ``torch.func`` and full-graph compilation.
    """

    drawn: Tensor

    def __init__(self, steps: int, *, seed: int = 0) -> None:
        super().__init__(steps)
        self.seed = seed
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def draw(self, x: Tensor) -> Tensor:
        """The noise of the next batch, shaped (T, *x.shape), drawn on the host."""
        stream = generator(self.seed, "rate code", int(self.drawn))
        self.drawn += 1
        return torch.rand(self.steps, *x.shape, generator=stream).to(x.device)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The frames."""
        return rate_code(x, self.draw(x) if noise is None else noise)
