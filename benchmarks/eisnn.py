"""``eisnn.lif.vs_loop``: a layer of spiking cells over 16 steps, forwards and backwards, over the plain loop in Python.

512 cells and 32 samples, from stored currents to the error at them: 16 384 cells' states, 1 MiB a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.harness import Pair, timed

STEPS, BATCH, CELLS = 16, 32, 512


def both_ways(form: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, g: Tensor) -> Callable[[], None]:
    """Spikes of ``x``, and the error ``g`` back to it."""

    def step() -> None:
        leaf = x.detach().requires_grad_()
        form(leaf)[0].backward(g)

    return step


def vs_loop() -> Pair:
    from equipoise import functional as f

    source = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, STEPS, BATCH, CELLS, generator=source)
    return Pair(timed(both_ways(f.lif, x, g)), timed(both_ways(f.lif_loop, x, g)))


def cases() -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Names, and what prepares each pair when its turn comes."""
    yield "eisnn.lif.vs_loop", vs_loop
