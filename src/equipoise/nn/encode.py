"""Modules that turn a picture into a sequence, time first; ``functional.encoders`` over them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.debugging import debugging
from equipoise.errors import InputError
from equipoise.functional.encoders import direct_code, latency_code, rate_code
from equipoise.randomness import generator

__all__ = ["Direct", "Latency", "Rate", "UnitRange"]


class Direct(nn.Module):
    """The picture (B, ...) at each of T ``steps`` as a current: (T, B, ...)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """The frames."""
        return direct_code(x, self.steps)


class UnitRange(Direct):
    """A code for pictures in [0, 1]; others it would cut."""

    def check_(self, x: Tensor) -> Tensor:
        """``x`` itself, if it is finite and in [0, 1]. ``ei_init_`` and ``equipoise.debug()`` call it."""
        if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
            raise InputError(
                f"{type(self).__name__} codes pixels in [0, 1], and those of this batch reach from "
                f"{float(x.min()):.3g} to {float(x.max()):.3g}; scale them; signed ones go "
                "through nn.OnOff() first"
            )
        return x

    def _enter(self, x: Tensor) -> None:
        if debugging():
            self.check_(x)


class Latency(UnitRange):
    """One spike a pixel, the earlier the brighter; ``x`` in [0, 1], none where x <= 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The frames."""
        self._enter(x)
        return latency_code(x, self.steps)


class Rate(UnitRange):
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
        self._enter(x)
        return rate_code(x, self.draw(x) if noise is None else noise)
