"""How weights are distributed: fits by maximum likelihood, which law fits better and by how much, and the moments.

DellaFerrera and Kreiman 2022 (section 4.4, appendix H) hold that backpropagation's output weights are normal and
PEPITA's follow Student's t. Here that is a comparison of likelihoods, with its size in nats per weight.

A fit of |w| leaves out weights that are exactly zero, which have no logarithm: the two laws of |w|, lognormal and
half-normal, are compared on the others. (The half-normal is what |w| follows where w is normal around zero.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.measure.student_t import student_t

__all__ = [
    "Comparison",
    "Fit",
    "compare_fits",
    "excess_kurtosis",
    "fit_half_normal",
    "fit_lognormal",
    "fit_normal",
    "fit_student_t",
    "positive_share",
    "weight_statistics",
]

Weights = Tensor | Sequence[float]
Law = Literal["normal", "student_t", "lognormal", "half_normal"]
FEWEST = 10
ROOT = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Fit:
    """A law with its most likely parameters. loglik: mean ln density in nats a weight; count: the weights fitted."""

    law: Law
    parameters: dict[str, float]
    loglik: float
    count: int

    @property
    def of(self) -> str:
        """What the law is of: "w", or "|w|"."""
        return "w" if self.law in ("normal", "student_t") else "|w|"

    @property
    def aic(self) -> float:
        """Akaike's criterion 2 k - 2 n loglik, with k parameters and n weights; the smaller the better."""
        return 2 * len(self.parameters) - 2 * self.count * self.loglik

    def density(self, values: Iterable[float]) -> list[float]:
        """The fitted density at ``values`` (of w, or of |w|), for a curve over a histogram."""
        x = torch.tensor([float(value) for value in values], dtype=torch.float64)
        return _log_density(self.law, self.parameters, x).exp().tolist()


@dataclass(frozen=True)
class Comparison:
    """Which law fits best. gain: by how much, (AIC of the second - AIC of the winner) / 2n, in nats a weight."""

    winner: str
    gain: float
    aic: dict[str, float]
    loglik: dict[str, float]


def fit_normal(weights: Weights) -> Fit:
    """The normal law N(mean, std^2): mean = sum w / n, std^2 = sum (w - mean)^2 / n.

    Raises ``InputError`` for fewer than 10 weights, weights that are all the same, or any that is not finite; so do
    all the fits.
    """
    w = _values(weights)
    return _fit("normal", {"mean": float(w.mean()), "std": float(w.std(correction=0))}, w)


def fit_student_t(weights: Weights) -> Fit:
    """Student's t with a location, a scale and nu degrees of freedom, by maximum likelihood (``student_t``).

    density = G((nu+1)/2) / (G(nu/2) sqrt(pi nu) scale) * (1 + z^2/nu)^(-(nu+1)/2), z = (w - location) / scale. nu is
    infinite where the normal is at least as likely, or nu passes 10^4. About .3 s for 10^6 weights. Raises
    ``InputError`` also where so many weights repeat one value that the likelihood has no bound.
    """
    w = _values(weights)
    location, scale, nu = student_t(w)
    return _fit("student_t", {"location": location, "scale": scale, "nu": nu}, w)


def fit_lognormal(weights: Weights) -> Fit:
    """The lognormal law of |w|: ln |w| ~ N(mean_log, std_log^2), with the mean and deviation of ln |w|."""
    sizes = _sizes(weights)
    logs = sizes.log()
    return _fit("lognormal", {"mean_log": float(logs.mean()), "std_log": float(logs.std(correction=0))}, sizes)


def fit_half_normal(weights: Weights) -> Fit:
    """The half-normal law of |w|: density 2 N(|w|; 0, scale^2), scale^2 = sum w^2 / n; the counterpart of lognormal."""
    sizes = _sizes(weights)
    return _fit("half_normal", {"scale": float(sizes.square().mean().sqrt())}, sizes)


def compare_fits(*fits: Fit) -> Comparison:
    """Which of two or more fits of the same weights is best, by Akaike's criterion.

    Raises ``InputError`` for fewer than two, a law that comes twice, or fits of different weights (w and |w|, or other
    counts): their likelihoods cannot be compared.
    """
    if len({fit.law for fit in fits}) < max(2, len(fits)):
        raise InputError(f"give two or more fits of different laws; seen: {', '.join(f.law for f in fits) or 'none'}")
    if len({(fit.of, fit.count) for fit in fits}) > 1:
        seen = ", ".join(f"{fit.law} of {fit.count} {fit.of}" for fit in fits)
        raise InputError(f"only fits of the same weights can be compared; seen: {seen}")
    first, second, *_ = sorted(fits, key=lambda fit: fit.aic)
    gain = (second.aic - first.aic) / (2 * first.count)
    return Comparison(first.law, gain, {f.law: f.aic for f in fits}, {f.law: f.loglik for f in fits})


def positive_share(weights: Weights) -> float:
    """The share of weights > 0."""
    return float((_values(weights, fewest=1) > 0).double().mean())


def excess_kurtosis(weights: Weights) -> float:
    """Mean (w - mean)^4 over the squared variance, less the normal law's 3: above 0 where tails are heavy."""
    w = _values(weights)
    w = (w - w.mean()) / w.std(correction=0)
    return float(w.pow(4).mean()) - 3


def weight_statistics(weights: Weights) -> dict[str, float]:
    """Moments and fits of one layer's weights, as numbers by name; what the measure "weights" gives.

    mean, std, positive (share > 0), kurtosis (excess), nu (Student's t; infinite for the normal), normal_loglik and
    t_loglik with t_gain = t - normal, lognormal_loglik and half_normal_loglik (of |w|) with lognormal_gain =
    lognormal - half-normal; likelihoods in nats a weight. NaN for what the weights do not allow.
    """
    w = _flat(weights)
    fits: dict[str, Fit] = {}
    for fit in (fit_normal, fit_student_t, fit_lognormal, fit_half_normal):
        with suppress(InputError):
            found = fit(w)
            fits[found.law] = found
    normal, t, log, half = (
        fits[law].loglik if law in fits else math.nan for law in ("normal", "student_t", "lognormal", "half_normal")
    )
    return {
        "mean": float(w.mean()),
        "std": float(w.std(correction=0)),
        "positive": positive_share(w) if bool(w.isfinite().all()) else math.nan,
        "kurtosis": excess_kurtosis(w) if "normal" in fits else math.nan,
        "nu": fits["student_t"].parameters["nu"] if "student_t" in fits else math.nan,
        "normal_loglik": normal,
        "t_loglik": t,
        "t_gain": t - normal,
        "lognormal_loglik": log,
        "half_normal_loglik": half,
        "lognormal_gain": log - half,
    }


def _fit(law: Law, parameters: dict[str, float], values: Tensor) -> Fit:
    return Fit(law, parameters, float(_log_density(law, parameters, values).mean()), len(values))


def _log_density(law: Law, parameters: Mapping[str, float], x: Tensor) -> Tensor:
    """ln of the law's density at ``x``; -inf outside its support."""
    if law == "student_t" and parameters["nu"] < math.inf:
        nu, scale = parameters["nu"], parameters["scale"]
        peak = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(math.sqrt(math.pi * nu) * scale)
        return peak - (nu + 1) / 2 * ((x - parameters["location"]) / scale).square().div(nu).log1p()
    if law == "lognormal":
        logs = x.clamp_min(0).log()
        z = (logs - parameters["mean_log"]) / parameters["std_log"]
        inside = -z.square() / 2 - logs - math.log(parameters["std_log"] * ROOT)
        return torch.where(x > 0, inside, -math.inf)
    if law == "half_normal":
        scale = parameters["scale"]
        return torch.where(x >= 0, math.log(2 / (scale * ROOT)) - (x / scale).square() / 2, -math.inf)
    centre, spread = parameters.values() if law == "normal" else (parameters["location"], parameters["scale"])
    return -((x - centre) / spread).square() / 2 - math.log(spread * ROOT)


def _flat(weights: Weights) -> Tensor:
    w = weights.detach() if isinstance(weights, Tensor) else torch.as_tensor(weights, dtype=torch.float64)
    return w.reshape(-1).to("cpu", torch.float64)


def _values(weights: Weights, *, fewest: int = FEWEST) -> Tensor:
    """The weights as (n,) float64 on the CPU; ``InputError`` where there is nothing to fit."""
    w = _flat(weights)
    if len(w) < fewest:
        raise InputError(f"{len(w)} weights are too few for a fit; give {fewest} or more")
    finite = w.isfinite()
    if not bool(finite.all()):
        raise InputError(f"{int((~finite).sum())} of {len(w)} weights are not finite; did the training diverge?")
    if fewest > 1 and bool((w == w[0]).all()):
        raise InputError(f"all {len(w)} values are {float(w[0]):g}: a constant has no distribution to fit")
    return w


def _sizes(weights: Weights) -> Tensor:
    """|w| without the zeros."""
    w = _values(weights)
    return _values(w[w != 0].abs())
