"""Random matrices of a named law, drawn on the host from an explicit generator.

n is the fan-in: the number of values that one unit sums over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.registry import Registry

__all__ = ["draw", "laws"]

Law = Callable[[Sequence[int], int, torch.Generator], Tensor]

laws: Registry[Law] = Registry("law")


def _uniform(shape: Sequence[int], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(tuple(shape), generator=generator, dtype=torch.float64) * 2 - 1) * bound


@laws.register("kaiming_uniform")
def _kaiming_uniform(shape: Sequence[int], n: int, generator: torch.Generator) -> Tensor:
    """Uniform within sqrt(6 / n) of zero."""
    return _uniform(shape, (6 / n) ** 0.5, generator)


@laws.register("kaiming_normal")
def _kaiming_normal(shape: Sequence[int], n: int, generator: torch.Generator) -> Tensor:
    """Normal with variance 2 / n."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64) * (2 / n) ** 0.5


@laws.register("torch_default")
def _torch_default(shape: Sequence[int], n: int, generator: torch.Generator) -> Tensor:
    """Uniform within 1 / sqrt(n) of zero, as torch initialises its own layers."""
    return _uniform(shape, n**-0.5, generator)


@laws.register("orthogonal")
def _orthogonal(shape: Sequence[int], n: int, generator: torch.Generator) -> Tensor:
    """Rows or columns orthonormal (Haar), whichever are fewer, after folding to two dimensions."""
    rows = shape[0]
    columns = torch.Size(shape).numel() // rows
    gauss = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    q = q * r.diagonal().sign()
    return (q if rows >= columns else q.T).reshape(tuple(shape))


def draw(shape: Sequence[int], *, law: str, fan_in: int, generator: torch.Generator) -> Tensor:
    """A float64 tensor of ``shape`` from ``law``; the same numbers for every dtype and device asked for later.

    Raises ``InputError`` for an unknown law.
    """
    return laws[law](shape, max(1, fan_in), generator)
