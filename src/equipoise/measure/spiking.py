"""What spiking cells do on a batch: how often they fire, which never do, and the currents that drive them.

Cells and circuits are found by what they have: cells by ``sequence`` and ``steps``, E-I layers by ``weight_ei`` and
``weight_ie``. A network without any has no numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.measure.activity import untouched
from equipoise.measure.alignment import alignment
from equipoise.measure.catalogue import Measure, measures

__all__ = ["bimodality", "cells_heard", "histogram", "spiking", "surrogate", "synapses"]

EDGES = (-4.0, 4.0)  # standard deviations; what lies beyond is counted in the outermost bins
BINS = 32


def _moments(values: Tensor) -> tuple[float, float, float, float]:
    """Mean, standard deviation, skewness and kurtosis (3 for a normal law) of all entries; NaN where they are alike."""
    x = values.detach().reshape(-1).double()
    mean = x.mean()
    away = x - mean
    square = away.square()
    variance = square.mean()
    third, fourth = (square * away).mean(), square.square().mean()
    return float(mean), float(variance.sqrt()), float(third / variance**1.5), float(fourth / variance.square())


def _two_peaks(skewness: float, kurtosis: float) -> float:
    return (skewness**2 + 1) / kurtosis if kurtosis > 0 else math.nan


def bimodality(values: Tensor) -> float:
    """Sarle's coefficient (skewness^2 + 1) / kurtosis of all entries, in (0, 1].

    1 for two points of any weight, 5/9 for the uniform law, 1/3 for the normal one. Above 5/9 two peaks are likely; a
    skewed law comes there too (the exponential has 5/9). NaN where all entries are alike. Moments of the population.
    """
    _, _, skewness, kurtosis = _moments(values)
    return _two_peaks(skewness, kurtosis)


def histogram(values: Tensor) -> list[float]:
    """Shares of all entries in 32 bins of equal width from -4 to 4 standard deviations about their mean.

    The first and last bin also hold what lies beyond; all zero where the entries are alike or not finite.
    """
    mean, spread, *_ = _moments(values)
    if not (spread > 0 and math.isfinite(mean)):
        return [0.0] * BINS
    low, high = EDGES
    z = ((values.detach().reshape(-1).double() - mean) / spread).clamp(low, high)
    return (torch.histc(z, BINS, low, high) / z.numel()).tolist()


def _cells(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of spiking cells that is called by itself, by name."""
    return {n: m for n, m in model.named_modules() if hasattr(m, "sequence") and hasattr(m, "steps")}


def _recurrent(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that step their own cells."""
    return {n: m for n, m in model.named_modules() if hasattr(m, "weight_ir")}


def cells_heard(model: nn.Module, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor]]:
    """(currents, spikes) of every layer of cells for the batch, in the order in which they ran; None: not known."""
    heard: dict[str, tuple[Tensor | None, Tensor]] = {}
    loops = _recurrent(model)
    cells = {n: m for n, m in _cells(model).items() if n.rpartition(".")[0] not in loops}
    hooks = []
    for name, module in {**cells, **loops}.items():

        def hook(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
            heard[name] = (None if name in loops else args[0], output)

        hooks.append(module.register_forward_hook(hook))
    try:
        with untouched(model, x), torch.no_grad():
            model.eval()
            model(x)
    finally:
        for one in hooks:
            one.remove()
    return heard


def spiking(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Firing rates, silent units and the moments of currents of each layer of cells on the batch x (B, ...).

    ``spikes/<layer>``: spikes a cell a step, in [0, 1]; ``spikes``: over all cells of the network;
    ``silent/<layer>``: share of units (channels of an image, else cells) without a spike in the whole batch;
    ``current/<layer>``, ``spread/<layer>``, ``bimodality/<layer>``: mean, standard deviation and ``bimodality`` of what
    the cells get, before the membrane. In eval mode; no moments of currents for recurrent layers.
    """
    found: dict[str, float] = {}
    spikes, chances = 0.0, 0
    for name, (current, s) in cells_heard(rule.model, x).items():
        fired = s.detach() > 0
        axis = s.ndim - 3 if s.ndim >= 4 else s.ndim - 1
        units = fired.movedim(axis, 0).flatten(1)
        count = float(units.sum())
        found[f"spikes/{name}"] = count / fired.numel()
        found[f"silent/{name}"] = float((~units.any(1)).double().mean())
        spikes, chances = spikes + count, chances + fired.numel()
        if current is not None:
            mean, spread, skewness, kurtosis = _moments(current)
            found[f"current/{name}"], found[f"spread/{name}"] = mean, spread
            found[f"bimodality/{name}"] = _two_peaks(skewness, kurtosis)
    return found | ({"spikes": spikes / chances} if chances else {})


def _circuits(model: nn.Module) -> dict[str, Any]:
    return {n: m for n, m in model.named_modules() if hasattr(m, "weight_ei") and hasattr(m, "weight_ie")}


def synapses(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """How the weights of each E-I layer, and the currents of its cells, are distributed.

    For W_EE ("ee"), W_IE ("ie") and W_EI ("ei"): ``ee_mean/<layer>``, ``ee_sd/<layer>``, ``ee_zero/<layer>`` (the share
    that is exactly 0), ``ee_bimodality/<layer>``. Then 32 bins of ``histogram``, ``ee_bin/<layer>/<k>`` from k = 0, and
    ``current_bin/<cells>/<k>`` for what the cells get.
    """
    found: dict[str, float] = {}
    for name, circuit in _circuits(rule.model).items():
        for kind in ("ee", "ie", "ei"):
            weight = getattr(circuit, f"weight_{kind}").detach()
            mean, spread, skewness, kurtosis = _moments(weight)
            found[f"{kind}_mean/{name}"], found[f"{kind}_sd/{name}"] = mean, spread
            found[f"{kind}_zero/{name}"] = float((weight == 0).double().mean())
            found[f"{kind}_bimodality/{name}"] = _two_peaks(skewness, kurtosis)
            if kind != "ei":
                found |= {f"{kind}_bin/{name}/{k}": share for k, share in enumerate(histogram(weight))}
    for name, (current, _) in cells_heard(rule.model, x).items():
        if current is not None:
            found |= {f"current_bin/{name}/{k}": share for k, share in enumerate(histogram(current))}
    return found


def surrogate(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Degrees between what the rule writes and the surrogate gradient of the network as it computes.

    ``surrogate/<weight>`` per weight; ``surrogate``: the mean over hidden layers' weights from below, without the
    readout's and without those from inhibitory cells. The reference is backpropagation through the surrogate derivative
    of spikes, with every deliberate edit off (``alignment(..., "exact")``): spikes themselves have no gradient.
    """
    found = alignment(rule, x, y, "exact", generator=generator)
    below = [degrees for name, degrees in found.items() if not name.endswith("weight_ei")][:-1]
    hidden = math.fsum(below) / len(below) if below else math.nan
    return {"surrogate": hidden} | {f"surrogate/{layer}": degrees for layer, degrees in found.items()}


_SPIKES = "firing rate, silent units, and mean, deviation and bimodality of currents, per layer of spiking cells"
_SYNAPSES = "moments, zeros, bimodality and histograms of each E-I layer's weights, and histograms of its currents"
_ANGLES = (
    "degrees between what the rule writes and the surrogate gradient, without any edit, per weight and hidden mean"
)
measures.register("spiking")(Measure("spiking", spiking, "epoch", _SPIKES))
measures.register("synapses")(Measure("synapses", synapses, "epoch", _SYNAPSES))
measures.register("surrogate")(Measure("surrogate", surrogate, "epoch", _ANGLES))
