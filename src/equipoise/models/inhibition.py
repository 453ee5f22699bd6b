"""Networks of excitatory and inhibitory cells: normalised by inhibition, by a formula, or not at all.

All of them take rates (pixels in [0, 1]) and end in the same readout: excitatory cells and one inhibitory cell that
subtracts, all trained by the task. Networks of one seed and one size start with the same excitatory weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.options import Reader, read_options, switch
from equipoise.models.styles import image_shape, integers
from equipoise.nn import (
    DaleConv2d,
    DaleLinear,
    DANNConv2d,
    DANNLinear,
    DetachNorm,
    ExcitatoryLinear,
    INormConv2d,
    INormLinear,
    Normalise,
)
from equipoise.randomness import derive

__all__ = ["dale", "dann", "inorm", "layernorm"]

# (inputs, units, place of the layer, whether it is a convolution) -> the layer and what follows it before ReLU
Make = Callable[[int, int, int, bool], list[nn.Module]]

NORMS: dict[str, dict[str, bool] | None] = {
    "none": None,
    "layer": {},
    "centre": {"scale": False},
    "scale": {"centre": False},
    "forward": {"backward": False},
    "backward": {"forward": False},
    "detach": {},
    "batch": {},
}


def _absent(text: str) -> str | None:
    return None if text == "none" else text


def _pathways(text: str) -> tuple[str, ...]:
    return {"both": ("subtractive", "divisive"), "none": ()}.get(text, (text,))


def _stack(sizes: str, spec: str, form: str, make: Make) -> nn.Sequential:
    """Hidden layers with ReLU (and 2x2 max-pooling between convolutions), then the readout."""
    conv, height, width = "x" in sizes, 0, 0
    image, *rest = sizes.split("-")
    if conv:
        channels, height, width = image_shape(image, spec, form)
        widths = [channels, *integers("-".join(rest), "-", spec, form)]
    else:
        widths = integers(sizes, "-", spec, form)
    *hidden, classes = widths[1:] or [0]
    if not hidden:
        raise InputError(f"model '{spec}' needs an input, a hidden layer or more, and classes, as in {form}")
    layers: list[nn.Module] = [] if conv else [nn.Flatten()]
    for place, (before, after) in enumerate(pairwise([widths[0], *hidden])):
        layers += [*make(before, after, place, conv), nn.ReLU(), *([nn.MaxPool2d(2)] if conv else [])]
    features = hidden[-1]
    if conv:
        if min(height, width) < 2 ** len(hidden):
            raise InputError(f"model '{spec}' needs a pixel that is left behind the last pooling")
        layers.append(nn.Flatten())
        features *= (height >> len(hidden)) * (width >> len(hidden))
    return nn.Sequential(*layers, DaleLinear(features, classes, pool=1))


_INORM: dict[str, Reader] = {
    "ratio": float,
    "pool": int,
    "divisive_pool": int,
    "bias": _absent,
    "law": str,
    "detach": _pathways,
    "task_trains": _pathways,
    "divisive": _absent,
    "train_ei": switch,
    "gradnorm": str,
    "pools": int,
    "pooling": str,
    "local_weight": float,
    "form": str,
    "dale": switch,
    "division": str,
}


@register("inorm")
def inorm(text: str = "784-300-300-10") -> nn.Sequential:
    """Inhibition learns to normalise each hidden layer: inorm:784-300-300-10,gradnorm=center

    Layer widths, or an image and channels of 3x3 convolutions, each with max-pooling: inorm:3x32x32-32-64-10. Options
    behind a comma are those of ``nn.INormLinear``; detach and task_trains take both, none, or one pathway.
    """
    spec, form = f"inorm:{text}", "inorm:784-300-300-10"
    sizes, options = read_options(text or form.partition(":")[2], spec, _INORM)

    def make(before: int, after: int, place: int, conv: bool) -> list[nn.Module]:
        given: dict[str, Any] = options | {"seed": derive(torch.initial_seed(), "lateral", place)}
        return [INormConv2d(before, after, 3, padding=1, **given)] if conv else [INormLinear(before, after, **given)]

    return _stack(sizes, spec, form, make)


@register("dale")
def dale(text: str = "784-300-300-10") -> nn.Sequential:
    """Excitatory cells and subtractive inhibition, all trained by the task: dale:784-300-300-10,norm=layer

    Sizes as for inorm. Options: ``norm`` behind each hidden layer (none, layer, centre, scale, forward or backward for
    one half of layer normalisation, detach, batch; never with an affine map), ``cells=e`` for excitatory cells alone
    (dense), ``ratio`` and ``law`` as for inorm.
    """
    return _formula(text, "dale", {"norm": "none", "cells": "ei"})


@register("layernorm")
def layernorm(text: str = "784-300-300-10") -> nn.Sequential:
    """Excitatory cells alone with layer normalisation by formula: layernorm:784-300-300-10

    dale with ``cells=e,norm=layer``; options as there.
    """
    return _formula(text, "layernorm", {"norm": "layer", "cells": "e"})


def _formula(text: str, name: str, defaults: Mapping[str, str]) -> nn.Sequential:
    spec, form = f"{name}:{text}", f"{name}:784-300-300-10"
    readers: dict[str, Reader] = {
        "norm": lambda word: word if word in NORMS else {}[word],
        "cells": lambda word: {"ei": "ei", "e": "e"}[word],
        "ratio": float,
        "law": str,
    }
    sizes, options = read_options(text or form.partition(":")[2], spec, readers)
    options = {**defaults, **options}
    norm, cells = options.pop("norm"), options.pop("cells")

    def make(before: int, after: int, place: int, conv: bool) -> list[nn.Module]:
        behind: list[nn.Module] = []
        if norm == "detach":
            behind = [DetachNorm(dim=-3 if conv else -1)]
        elif norm == "batch":
            behind = [(nn.BatchNorm2d if conv else nn.BatchNorm1d)(after, affine=False)]
        elif (switches := NORMS[norm]) is not None:
            behind = [Normalise(dim=-3 if conv else -1, **switches)]
        if conv:
            if cells == "e":
                raise InputError(f"model '{spec}': cells=e is for dense layers; convolutions have both kinds")
            return [DaleConv2d(before, after, 3, padding=1, **options), *behind]
        circuit = DaleLinear(before, after, **options)
        return [_excitatory(circuit, before, after) if cells == "e" else circuit, *behind]

    return _stack(sizes, spec, form, make)


@torch.no_grad()
def _excitatory(circuit: DaleLinear, before: int, after: int) -> ExcitatoryLinear:
    """The excitatory cells of ``circuit`` without its inhibition; nothing is drawn for them."""
    with torch.random.fork_rng(devices=()):
        layer = ExcitatoryLinear(before, after)
    layer.weight.copy_(circuit.weight_ee)
    return layer


@register("dann")
def dann(text: str = "784-300-300-10") -> nn.Sequential:
    """Inhibition that subtracts and divides, trained by the task at corrected rates: dann:784-300-300-10

    Sizes as for inorm. Options: ``ratio``, ``pool``, ``divisive=no``, ``corrections=no``, ``inhibition=iid`` or mean.
    """
    spec, form = f"dann:{text}", "dann:784-300-300-10"
    readers: dict[str, Reader] = {
        "ratio": float,
        "pool": int,
        "divisive": switch,
        "corrections": switch,
        "inhibition": str,
    }
    sizes, options = read_options(text or form.partition(":")[2], spec, readers)

    def make(before: int, after: int, place: int, conv: bool) -> list[nn.Module]:
        given: dict[str, Any] = options | {"first": place == 0}
        return [DANNConv2d(before, after, 3, padding=1, **given)] if conv else [DANNLinear(before, after, **given)]

    return _stack(sizes, spec, form, make)
