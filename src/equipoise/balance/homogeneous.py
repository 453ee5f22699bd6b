"""Whether an activation is positively homogeneous, found by trying it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["is_homogeneous"]

_SIZES = (0.03, 0.11, 0.47, 1.0, 1.9, 4.3, 13.0)
_FACTORS = (0.05, 0.31, 1.7, 6.0, 25.0)


def is_homogeneous(fn: Callable[[Tensor], Tensor], tolerance: float = 1e-9) -> float | None:
    """The degree c with f(lambda x) = lambda^c f(x) for all lambda > 0, or None where there is none.

    ``fn`` maps a float64 tensor elementwise, or along its last axis; it is tried on positive and negative points, with
    factors 0.05 to 25, in ``eval`` mode if it is a module. c = 1 for every bilinear unit (ReLU, leaky ReLU, abs,
    identity: Proposition 2.2), 2 for the squared ReLU. A function that is 0 everywhere counts as degree 1; a degree
    c <= 0 (a constant, 1/x) is returned as it is, and no scaling balances such a unit.
    """
    points = torch.tensor([*(-s for s in reversed(_SIZES)), *_SIZES], dtype=torch.float64)
    training = isinstance(fn, nn.Module) and fn.training
    if isinstance(fn, nn.Module):
        moved = any(p.dtype != torch.float64 for p in fn.parameters())
        fn.eval()
    else:
        moved = False
    try:
        with torch.no_grad():
            rows = points * torch.tensor((1.0, *_FACTORS), dtype=torch.float64)[:, None]
            values = torch.stack([fn(row.float() if moved else row).double() for row in rows])
    finally:
        if isinstance(fn, nn.Module):
            fn.train(training)
    return _degree(values, 1e-5 if moved else tolerance)


def _degree(values: Tensor, tolerance: float) -> float | None:
    """The one power by which each row of values (1 + factors, points) is the first, times its factor to that power."""
    first, others = values[0], values[1:]
    live = first != 0
    if not values.isfinite().all() or (others[:, ~live] != 0).any():
        return None
    if not live.any():
        return 1.0
    ratios = others[:, live] / first[live]
    if (ratios <= 0).any():
        return None
    factors = torch.tensor(_FACTORS, dtype=torch.float64)[:, None].log()
    powers = ratios.log() / factors
    degree = float(powers.mean())
    rounded = round(degree, 6)
    degree = rounded if math.isclose(degree, rounded, abs_tol=1e-7) else degree
    expected = (degree * factors).exp()
    return degree if ((ratios / expected - 1).abs() <= tolerance * (1 + abs(degree))).all() else None
