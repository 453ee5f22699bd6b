"""The best scale of one unit, for many units at once: the minimiser of a sum of exponentials.

    phi(t) = sum_k S_k exp(q_k t),   S_k >= 0, some q_k > 0 (what grows with the scale) and some q_k < 0

At the minimum P(t) = sum_{q > 0} q S exp(q t), what grows, equals M(t) = sum_{q < 0} |q| S exp(q t), what shrinks.
h(t) = log P - log M rises with a slope between the least and the largest sum of a growing and a shrinking exponent;
so -h(0) over these two brackets the root, and Newton's steps on h, kept inside, end after a few. With one exponent on
either side the slope is constant and the first step is exact:

    t = log(|q_-| S_- / (q_+ S_+)) / (q_+ + |q_-|);  q_+ = p, q_- = -p c:  lambda* = (c B / A)^(1 / (p (c + 1)))   (E.6)
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["balance_of", "best_step"]

STEPS = 60
CLOSE = 1e-15


def balance_of(sums: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
    """P and M at t = 0: the weighted sums of what grows and of what shrinks; (n, K) to (n,) each."""
    weighted = sums * exponents
    return weighted.clamp(min=0).sum(-1), weighted.clamp(max=0).sum(-1).neg()


def best_step(sums: Tensor, exponents: Tensor) -> Tensor:
    """argmin over t of sum_k S_k exp(q_k t): ``sums`` (n, K), ``exponents`` (K,), to (n,).

    0 where nothing grows or nothing shrinks: such a unit has no best scale.
    """
    grows, shrinks = exponents > 0, exponents < 0
    up, down = sums[:, grows], sums[:, shrinks]
    p, m = exponents[grows], exponents[shrinks].neg()
    solvable = (up > 0).any(-1) & (down > 0).any(-1)
    if len(p) == len(m) == 1:
        ratio = (m * down / (p * up))[:, 0]
        return torch.where(solvable, ratio.log() / (p + m), 0.0)
    up, down = (p * up).log(), (m * down).log()

    def height(t: Tensor) -> tuple[Tensor, Tensor]:
        rising, falling = up + p * t[:, None], down - m * t[:, None]
        top, bottom = torch.logsumexp(rising, -1), torch.logsumexp(falling, -1)
        slope = ((rising - top[:, None]).exp() * p).sum(-1) + ((falling - bottom[:, None]).exp() * m).sum(-1)
        return top - bottom, slope

    t = sums.new_zeros(len(sums))
    h, slope = height(t)
    low, high = -h / (p.min() + m.min()), -h / (p.max() + m.max())
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    for _ in range(STEPS):
        step = t - h / slope
        inside = (step >= low) & (step <= high)
        step = torch.where(inside, step, (low + high) / 2)
        moved = (step - t).abs() > CLOSE * (1 + step.abs())
        t = step
        if not bool((moved & solvable).any()):
            break
        h, slope = height(t)
        low, high = torch.where(h < 0, t, low), torch.where(h > 0, t, high)
    return torch.where(solvable, t, 0.0)
