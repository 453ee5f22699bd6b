"""Student's t by maximum likelihood: location, scale and degrees of freedom of a large sample, by Newton's method.

The mean log-likelihood per value, with z = (x - m) / s and nu degrees of freedom:

    l = ln G((nu + 1)/2) - ln G(nu/2) - ln(pi nu)/2 - ln s - (nu + 1)/2 * mean ln(1 + z^2 / nu),   G the gamma function.

One pass over the sample gives l, its gradient and its Hessian in (m, ln s, ln nu), all from the five means of
ln(1 + z^2/nu), p, p^2, g and g p, where p = z^2 / (nu + z^2) and g = z / (nu + z^2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["MOST_FREEDOM", "Point", "likelihood", "student_t"]

# Beyond this many degrees of freedom t and normal cannot be told apart by the excess kurtosis 6 / (nu - 4) of fewer
# than about 10^7 values; the fit is then the normal, and nu is infinite.
MOST_FREEDOM = 1e4
# A scale this small beside the sample's quartiles, or freedom this low, is a spike on values that are all the same,
# where the likelihood has no bound.
NARROWEST, LEAST_FREEDOM = 1e-6, 0.05
# Values in one piece of a pass, so that its temporaries stay in a processor's cache.
PIECE = 2**16


class Point(NamedTuple):
    """Location m, ln s and ln nu."""

    location: float
    log_scale: float
    log_freedom: float


def likelihood(x: Tensor, at: Point) -> tuple[float, Tensor, Tensor]:
    """The mean log-likelihood l of ``x`` (n,) in nats, its gradient (3,) and its Hessian (3, 3) at (m, ln s, ln nu)."""
    nu, scale = math.exp(at.log_freedom), math.exp(at.log_scale)
    sums = torch.zeros(5, dtype=torch.float64)
    for piece in x.split(PIECE):
        z = (piece - at.location) / scale
        square = z * z
        g = z / (square + nu)
        p = z * g
        sums += torch.stack([square.div_(nu).log1p_().sum(), p.sum(), p.square().sum(), g.sum(), (g * p).sum()])
    log, p, pp, g, gp = (sums / len(x)).tolist()
    half, rest = torch.tensor([(nu + 1) / 2, nu / 2], dtype=torch.float64), (nu + 1) / nu
    digamma, trigamma = torch.special.digamma(half).tolist(), torch.special.polygamma(1, half).tolist()

    value = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(math.pi * nu) / 2
    value += -at.log_scale - (nu + 1) / 2 * log
    by_nu = (digamma[0] - digamma[1] - 1 / nu - log + rest * p) / 2
    gradient = [(nu + 1) * g / scale, (nu + 1) * p - 1, nu * by_nu]

    left = p - pp  # the mean of p (1 - p)
    by_nu_twice = (trigamma[0] - trigamma[1]) / 4 + (1 / nu**2 + p / nu - p / nu**2 - rest / nu * left) / 2
    location_twice = -rest / scale**2 * (1 - 3 * p + 2 * pp)
    location_scale = -2 * (nu + 1) / scale * (g - gp)
    location_freedom = nu / scale * (g - rest * (g - gp))
    scale_freedom = nu * p - (nu + 1) * left
    hessian = [
        [location_twice, location_scale, location_freedom],
        [location_scale, -2 * (nu + 1) * left, scale_freedom],
        [location_freedom, scale_freedom, nu**2 * by_nu_twice + nu * by_nu],
    ]
    return value, torch.tensor(gradient, dtype=torch.float64), torch.tensor(hessian, dtype=torch.float64)


def climb(x: Tensor, start: Point, *, most_steps: int = 100) -> tuple[float, Point]:
    """The maximum of the likelihood uphill of ``start``; stops early where the freedom or the scale leaves its range.

    Newton steps with the absolute values of the Hessian's eigenvalues, so that each leads uphill, at most 2 in any
    coordinate, halved until the likelihood grows.
    """
    here = start
    value, gradient, hessian = likelihood(x, here)
    for _ in range(most_steps):
        eigenvalues, vectors = torch.linalg.eigh(hessian)
        step = vectors @ ((vectors.T @ gradient) / eigenvalues.abs().clamp_min(1e-9))
        gain = float(gradient @ step)
        if gain < 1e-14 or not in_range(here):
            break
        step = step * min(1.0, 2 / float(step.abs().max()))
        for _ in range(40):
            there = Point(*(a + b for a, b in zip(here, step.tolist(), strict=True)))
            found = likelihood(x, there)
            if found[0] > value:
                break
            step = step / 2
        else:
            break
        here, (value, gradient, hessian) = there, found
    return value, here


def in_range(at: Point) -> bool:
    """Whether neither the freedom nor the scale has left for its limit."""
    spiked = at.log_scale < math.log(NARROWEST) or at.log_freedom < math.log(LEAST_FREEDOM)
    return not spiked and at.log_freedom < math.log(MOST_FREEDOM)


def student_t(x: Tensor) -> tuple[float, float, float]:
    """Location, scale and degrees of freedom that make the values ``x`` (n,), in float64, most likely.

    From two starts: the median with the interquartile spread at nu = 4, and the mean with the deviation at nu = 30;
    the higher maximum counts. Where no t is more likely than the normal, which is the limit of large nu, nu is infinite
    and location and scale are the mean and the deviation; so too beyond ``MOST_FREEDOM``. Raises ``InputError`` where
    values repeat so much that the likelihood has no bound.
    """
    centre, spread = float(x.mean()), float(x.std(correction=0))
    median = float(x.median())
    quartile = float((x - median).abs().median())
    unit = quartile or spread
    x = (x - median) / unit
    mean, deviation = (centre - median) / unit, spread / unit
    starts = [Point(mean, math.log(deviation * math.sqrt(28 / 30)), math.log(30))]
    if quartile:
        starts.append(Point(0.0, -math.log(0.7407), math.log(4)))  # the upper quartile of t with nu = 4
    summits = [climb(x, start) for start in starts]
    inside = [summit for summit in summits if in_range(summit[1])]
    if not inside and all(at.log_freedom < math.log(MOST_FREEDOM) for _, at in summits):
        raise InputError("too many of the weights have one value: no Student t fits best; leave that value out")
    value, best = max(inside, default=(-math.inf, starts[0]))
    if value <= -(math.log(2 * math.pi) + 1) / 2 - math.log(deviation):
        return centre, spread, math.inf
    return median + unit * best.location, unit * math.exp(best.log_scale), math.exp(best.log_freedom)
