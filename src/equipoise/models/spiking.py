"""Spiking networks of excitatory and inhibitory cells, and their twins with batch normalisation or with nothing.

One text makes the network with its time and its code: (B, C, H, W) in [0, 1] to (B, classes). Options are shared:

norm: ei (circuits; set them with ``nn.ei_init_``), batch (layers without bias and batch normalisation), none (layers
with bias). steps=4; encoder: direct, rate, latency, or frames for data (B, T, ...) that have time already; onoff=yes:
ON and OFF cells for signed input; width=0.25: a factor on hidden widths. Cells: tau=2, threshold=1, surrogate=sigmoid,
reset=soft, learn=tau (or threshold, or tau+threshold). Circuits alone: ratio=0.25 or pool_cells=N for every layer;
subtractive, divisive, rectify, stabilise, straight (yes or no); scaling=rate, gradient or none; inhibition=spiking with
tau_inhibitory=1.25; recurrent=yes with share=0.5. ``nn.EILinear``, ``nn.RecurrentEI`` and ``nn.LIF`` say what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.spiking_plan import Plan, read_plan
from equipoise.models.styles import image_sizes, integers
from equipoise.nn import OverTime

__all__ = ["spiking_mlp", "spiking_vgg"]

# Channels of the convolutions of a stage; 2x2 pooling follows each stage.
VGG: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
MLP: dict[int, tuple[int, ...]] = {
    2: (500,),
    4: (500, 500, 300),
    6: (500,) * 2 + (300,) * 3,
    8: (500,) * 2 + (300,) * 3 + (100,) * 2,
    12: (500,) * 4 + (300,) * 4 + (100,) * 3,
    16: (500,) * 5 + (300,) * 5 + (100,) * 5,
}


def checked_depth(depth: int, known: dict[int, tuple], spec: str) -> int:
    """``depth`` if the family has it, else an ``InputError``."""
    if depth not in known:
        raise InputError(f"model '{spec}': depth is one of {', '.join(map(str, known))}, not {depth}")
    return depth


def built(spec: str, build: Callable[[], OverTime]) -> OverTime:
    """What ``build`` makes; a layer's or cell's ``InputError`` gets the model's text in front."""
    try:
        return build()
    except InputError as error:
        if spec in str(error):
            raise
        raise InputError(f"model '{spec}': {error}") from None


def _head(plan: Plan, features: int, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    if plan.head == "heavy":
        for _ in range(2):
            layers += [*plan.layer(features, plan.wide(4096)), *plan.dropped()]
            features = plan.wide(4096)
    return [*layers, plan.readout(features, classes)]


@register("spiking-vgg")
def spiking_vgg(text: str = "3x32x32-10") -> OverTime:
    """A VGG of spiking cells with inhibition instead of normalisation: spiking-vgg:3x32x32-10,depth=16,norm=batch

    An image of any size and the classes; depth=8, 11, 16 or 19; ``pool=max`` instead of average; ``head=heavy``: two
    hidden layers of 4096 before the readout; ``dropout`` behind every hidden layer. Other options: this module's head.
    A stage whose picture is one pixel high or wide is not pooled. E-I spiking paper; VGG-8 has five convolutions.
    """
    spec = f"spiking-vgg:{text}"
    sizes, plan = read_plan(text or "3x32x32-10", spec, ("depth", "dropout", "pool", "head"))
    (channels, height, width), classes = image_sizes(sizes, spec, "spiking-vgg:3x32x32-10")
    stages = VGG[checked_depth(8 if plan.depth is None else plan.depth, VGG, spec)]

    def build() -> OverTime:
        layers: list[nn.Module] = []
        before, size = plan.inputs(channels), (height, width)
        for stage in stages:
            for units in map(plan.wide, stage):
                layers += [*plan.layer(before, units, 3), *plan.dropped()]
                before = units
            if min(size) > 1:
                layers.append(plan.pooled())
                size = (size[0] // 2, size[1] // 2)
        return plan.over_time([*layers, *_head(plan, before * size[0] * size[1], classes)])

    return built(spec, build)


@register("spiking-mlp")
def spiking_mlp(text: str = "784-500-10") -> OverTime:
    """Fully connected spiking cells with inhibition instead of normalisation: spiking-mlp:784-500-10,norm=ei

    Layer widths from input to classes; or input and classes alone with depth=2, 4, 6, 8, 12 or 16 weighted layers of
    500, 300 and 100 cells (the E-I spiking paper's). ``dropout`` behind every hidden layer. Input is flattened.
    """
    spec = f"spiking-mlp:{text}"
    sizes, plan = read_plan(text or "784-500-10", spec, ("depth", "dropout"))
    first, *hidden, classes = integers(sizes, "-", spec, "spiking-mlp:784-500-10") + [0] * ("-" not in sizes)
    if plan.depth is not None:
        if hidden:
            raise InputError(f"model '{spec}': depth says the hidden widths; leave them out, as in 784-10,depth=4")
        hidden = list(MLP[checked_depth(plan.depth, MLP, spec)])
    if not hidden or not classes:
        raise InputError(f"model '{spec}' needs an input, hidden widths or a depth, and classes, as in 784-500-10")

    def build() -> OverTime:
        layers: list[nn.Module] = [nn.Flatten()]
        widths = [plan.inputs(first), *map(plan.wide, hidden)]
        for before, units in pairwise(widths):
            layers += [*plan.layer(before, units), *plan.dropped()]
        return plan.over_time([*layers, plan.readout(widths[-1], classes)])

    return built(spec, build)
