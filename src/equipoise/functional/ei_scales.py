"""How wide the weights of an E-I layer start, from three moments of its input.

m1, m2: mean of the input and of its square; V: its variance over samples and time, averaged over positions; d: inputs
of a cell. W_EE and W_IE are exponential of mean beta, W_EI = 1 / n_I. E[w] = beta and E[w^2] = 2 beta^2 give

    Var(I_EE) = d beta^2 (m2 + V) = V   at   beta = sqrt(V / (d (m2 + V)))
    E[I_div] = gamma d beta m1 = std(I_EE)   at   gamma = sqrt(m2 + V) / (m1 sqrt(d))
    E[I_sub] = d beta m1 = E[I_EE]

The current (I_EE - I_sub) / I_div is the same for every beta, which decides effective learning rates alone.
Source: E-I spiking paper, E-I Init, in the general form of its code; ``binary_scales`` is the paper's.
"""

from __future__ import annotations

import math

__all__ = ["binary_scales", "ei_scales"]


def ei_scales(first: float, second: float, within: float, fan_in: int) -> tuple[float, float]:
    """(beta, gamma) for the moments m1, m2, V of the input."""
    power = second + within
    return math.sqrt(within / (fan_in * power)), math.sqrt(power) / (first * math.sqrt(fan_in))


def binary_scales(rate: float, fan_in: int) -> tuple[float, float]:
    """(beta, gamma) for spikes of probability p: sqrt((1 - p) / (d (2 - p))) and sqrt((2 - p) / (d p))."""
    return ei_scales(rate, rate, rate * (1 - rate), fan_in)
