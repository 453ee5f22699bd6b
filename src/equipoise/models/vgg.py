"""The plan of VGG networks, whatever their layers are made of, and one of rate circuits that subtract and divide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.options import Reader, built, read_options, switch, told
from equipoise.models.styles import image_sizes
from equipoise.nn import DaleLinear, DANNConv2d, DANNLinear

__all__ = ["HEAVY", "POOLS", "VGG", "among", "dann_vgg", "factor", "known_depth", "vgg", "within"]

# Channels of the convolutions of a stage; 2x2 pooling follows each stage.
VGG: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
HEAVY = (4096, 4096)  # the hidden layers of a heavy head
POOLS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}

# (inputs, units, side of the kernel or None for a linear layer) -> a hidden layer and what follows it
Hidden = Callable[[int, int, int | None], list[nn.Module]]


def among(*known: str) -> Reader:
    """Reads one of the words ``known``."""
    return {name: name for name in known}.__getitem__


def factor(text: str) -> float:
    """Reads a finite number above 0."""
    return within(float(text), 0 < float(text) < math.inf)


def within(value: Any, fits: bool) -> Any:
    """``value`` where it ``fits``; ``ValueError`` otherwise, for ``read_options`` to word."""
    if not fits:
        raise ValueError(value)
    return value


def known_depth(depth: int, known: dict[int, Any], spec: str) -> Any:
    """What ``known`` has for ``depth``, or an ``InputError``."""
    if depth not in known:
        raise InputError(f"model '{spec}': depth is one of {', '.join(map(str, known))}, not {depth}")
    return known[depth]


def vgg(
    channels: int,
    size: tuple[int, int],
    stages: Sequence[Sequence[int]],
    head: Sequence[int],
    hidden: Hidden,
    pool: Callable[[int], nn.Module],
) -> tuple[list[nn.Module], int]:
    """The layers up to the readout, and how many features it gets. A picture one pixel high or wide is not pooled."""
    layers: list[nn.Module] = []
    for stage in stages:
        for units in stage:
            layers += hidden(channels, units, 3)
            channels = units
        if min(size) > 1:
            layers.append(pool(2))
            size = (size[0] // 2, size[1] // 2)
    layers.append(nn.Flatten())
    features = channels * size[0] * size[1]
    for units in head:
        layers += hidden(features, units, None)
        features = units
    return layers, features


@register("dann-vgg")
def dann_vgg(text: str | int = "3x32x32-10", **options: Any) -> nn.Sequential:
    """The rate twin of spiking-vgg: circuits that subtract and divide, with ReLU: dann-vgg:3x32x32-10,depth=16

    An image of any size and the classes; ``depth=8``, 11, 16 or 19, ``width``, ``pool``, ``head`` and ``pool_cells`` as
    for spiking-vgg; ``ratio``, ``divisive``, ``corrections`` and ``inhibition`` as for dann. The readout subtracts.
    From Python also a depth, and options by keyword: ``dann_vgg(16, width=0.25)``.
    """
    text = told(text, options, "3x32x32-10", "dann-vgg")
    spec = f"dann-vgg:{text}"
    readers: dict[str, Reader] = {
        "depth": int,
        "width": factor,
        "pool": among(*POOLS),
        "head": among("light", "heavy"),
        "ratio": float,
        "pool_cells": int,
        "divisive": switch,
        "corrections": switch,
        "inhibition": among("iid", "mean"),
    }
    sizes, given = read_options(text, spec, readers)
    (channels, height, width), classes = image_sizes(sizes, spec, "dann-vgg:3x32x32-10")
    stages = known_depth(given.pop("depth", 8), VGG, spec)
    times, pool, head = given.pop("width", 1.0), POOLS[given.pop("pool", "average")], given.pop("head", "light")
    circuit: dict[str, Any] = {("pool" if name == "pool_cells" else name): value for name, value in given.items()}

    def wide(units: int) -> int:
        return max(1, round(units * times))

    first = [True]

    def hidden(before: int, units: int, kernel: int | None) -> list[nn.Module]:
        here: dict[str, Any] = circuit | {"first": first.pop() if first else False}
        if kernel is None:
            return [DANNLinear(before, units, **here), nn.ReLU()]
        return [DANNConv2d(before, units, kernel, padding=kernel // 2, **here), nn.ReLU()]

    plan = [[*map(wide, stage)] for stage in stages]
    widths = [*map(wide, HEAVY)] if head == "heavy" else []

    def build() -> nn.Sequential:
        layers, features = vgg(channels, (height, width), plan, widths, hidden, pool)
        return nn.Sequential(*layers, DaleLinear(features, classes, pool=1))

    return built(spec, build)
