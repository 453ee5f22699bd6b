"""Networks that target propagation can run backwards, with auxiliary units, and their lean twins without them.

Weights start orthogonal, rows or columns where a layer is not square, and biases at 0. A network and its lean twin of
one seed start with the same weights wherever their layers have the same shape. The first layer need not be square, as
nothing is carried down through it; the last has no activation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.functional.draws import draw
from equipoise.models.catalogue import register
from equipoise.models.options import Reader, read_options, switch
from equipoise.models.styles import image_sizes, integers
from equipoise.nn import InvertibleConv2d, InvertibleLinear
from equipoise.randomness import generator

__all__ = ["gait_imagenet", "invertible"]

# Kernel, stride and channels that the next layer sees; with padding that gives ceil(size / stride) positions.
_STAGES = ((9, 4, 24), (3, 2, 24), (5, 2, 48), (3, 2, 48), (3, 1, 96), (3, 2, 96), (3, 1, 192))
_OPTIONS: dict[str, Reader] = {"auxiliary": switch, "slope": float, "spread": float}
_UNITS: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "tanh": lambda _: nn.Tanh(),
    "identity": lambda _: nn.Identity(),
}


def _unit(text: str) -> str:
    _UNITS[text]
    return text


def _source(place: int) -> torch.Generator:
    """The stream that the weights of the layer at ``place`` are drawn from, whatever the others are."""
    return generator(torch.initial_seed(), "layer", place)


@torch.no_grad()
def _orthogonal(layer: nn.Linear | nn.Conv2d, place: int) -> nn.Linear | nn.Conv2d:
    """The layer as drawn anew: orthonormal rows or columns, whichever are fewer, and biases 0."""
    layer.weight.copy_(draw(layer.weight.shape, law="orthogonal", fan_in=1, generator=_source(place)))
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


@torch.no_grad()
def _spread(network: nn.Sequential, size: float) -> nn.Sequential:
    """Move every square weight away from orthogonality, W + N(0, size^2 / n) for n inputs of a unit."""
    if size:
        for layer in network:
            if isinstance(layer, (InvertibleLinear, InvertibleConv2d)) and not layer.first:
                layer.weight.add_(torch.randn(layer.weight.shape), alpha=size / layer.fan_in**0.5)
    return network


def _checked(spec: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options with their defaults; slopes in (0, 1], everything else from 0."""
    found = {"auxiliary": True, "slope": 0.1, "spread": 0.0, "activation": "leaky_relu", "width": 1.0} | options
    if not 0 < found["slope"] <= 1:
        raise InputError(f"model '{spec}': a slope is in (0, 1], so that the activation has an inverse")
    if not (0 <= found["spread"] < float("inf") and 0 < found["width"] < float("inf")):
        raise InputError(f"model '{spec}': spread is 0 or more and width above 0")
    if found["spread"] and not found["auxiliary"]:
        raise InputError(f"model '{spec}': spread is for square layers, which auxiliary=no does without")
    return found


@register("invertible")
def invertible(text: str = "3072-1024-1024-1024-10") -> nn.Sequential:
    """Square layers with auxiliary units and leaky ReLU, from orthogonal weights: invertible:3072-1024-1024-1024-10

    Layer widths from input to classes, none wider than the one before but for the second; the input is flattened.
    Options behind a comma: ``auxiliary=no`` (the lean twin, for rules that invert nothing), ``slope=0.1`` of leaky
    ReLU, ``activation=tanh`` or identity, ``spread=0.05`` (noise N(0, spread^2 / n) on every square weight).
    The default is the shallow CIFAR-10 network of the GAIT-prop scaling paper; its deep one has six hidden layers.
    """
    spec, form = f"invertible:{text}", "invertible:3072-1024-1024-1024-10"
    sizes, given = read_options(text or form.partition(":")[2], spec, {**_OPTIONS, "activation": _unit})
    options, widths = _checked(spec, given), integers(sizes, "-", spec, form)
    if len(widths) < 2:
        raise InputError(f"model '{spec}' needs an input and an output width, as in {form}")
    wider = [b for a, b in pairwise(widths[1:]) if b > a]
    if wider and options["auxiliary"]:
        raise InputError(f"model '{spec}': only the first layer may widen, and one does to {wider[0]}")
    layers: list[nn.Module] = [nn.Flatten()]
    for place, (width, units) in enumerate(pairwise(widths)):
        plain = place == 0 or not options["auxiliary"]
        if plain:
            layers.append(_orthogonal(nn.Linear(width, units), place))
        else:
            layers.append(InvertibleLinear(width, units, generator=_source(place)))
        layers += [_UNITS[options["activation"]](options["slope"])] if place < len(widths) - 2 else []
    return _spread(nn.Sequential(*layers), options["spread"])


class _Same(nn.ZeroPad2d):
    """Zeros at the borders so that a convolution has ceil(size / stride) positions, the odd one below and right."""

    def __init__(self, size: tuple[int, int], kernel: int, stride: int) -> None:
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in reversed(size)]
        super().__init__(tuple(part for total in pads for part in (total // 2, total - total // 2)))  # type: ignore[arg-type]


@register("gait-imagenet")
def gait_imagenet(text: str = "3x224x224-1000") -> nn.Sequential:
    """Seven convolutions without pooling or normalisation, and a readout: gait-imagenet:3x224x224-1000

    The image, of any size, and the classes. Options behind a comma, as for invertible, and ``width=0.25``, a factor on
    the channels. With auxiliary channels a kernel is a square matrix (24, then 216, 600, 432, 432, 864, 864 channels
    by default, of which the next layer sees 24, 24, 48, 48, 96, 96, 192). The GAIT-prop scaling paper, section 3.3.
    """
    spec, form = f"gait-imagenet:{text}", "gait-imagenet:3x224x224-1000"
    sizes, given = read_options(text or form.partition(":")[2], spec, {**_OPTIONS, "width": float})
    options = _checked(spec, given)
    (channels, *size), classes = image_sizes(sizes, spec, form)
    layers: list[nn.Module] = []
    for place, (kernel, stride, full) in enumerate(_STAGES):
        used = max(1, round(full * options["width"]))
        if options["auxiliary"]:
            first, source = place == 0, _source(place)
            layers.append(InvertibleConv2d(channels, used, kernel, stride, "same", first=first, generator=source))
        else:
            layers += [_Same((size[0], size[1]), kernel, stride)]
            layers.append(_orthogonal(nn.Conv2d(channels, used, kernel, stride), place))
        layers.append(nn.LeakyReLU(options["slope"]))
        channels, size = used, [-(-n // stride) for n in size]
    features = channels * size[0] * size[1]
    if classes > features and options["auxiliary"]:
        raise InputError(f"model '{spec}': {features} features have no room for {classes} classes; raise width")
    place = len(_STAGES)
    if options["auxiliary"]:
        readout = InvertibleLinear(features, classes, generator=_source(place))
    else:
        readout = _orthogonal(nn.Linear(features, classes), place)
    return _spread(nn.Sequential(*layers, nn.Flatten(), readout), options["spread"])
