"""Spiking networks of excitatory and inhibitory cells, and their twins with batch normalisation or with nothing.

One text makes the network with its time and its code: (B, C, H, W) in [0, 1] to (B, classes). Options are shared:

norm: ei (circuits; set them with ``nn.ei_init_``), batch (layers without bias and batch normalisation), none (layers
with bias), these two with init=he_normal or he_uniform. steps=4; encoder: direct, rate, latency, or frames for data
(B, T, ...) that have time already; onoff=yes: ON and OFF cells for signed input; width=0.25: a factor on hidden widths.
Cells: tau=2, threshold=1, surrogate=sigmoid, sharpness=4, reset=soft, through_reset=yes, learn=tau (or threshold, or
tau+threshold). Circuits alone:
ratio=0.25 or pool_cells=N for every layer; subtractive, divisive, rectify, stabilise, straight (yes or no);
scaling=rate, gradient or none; inhibition=spiking with tau_inhibitory=1.25; recurrent=yes with share=0.5;
unit_gains=yes starts every gain at 1, for a control without E-I Init.
``nn.EILinear``, ``nn.RecurrentEI`` and ``nn.LIF`` say what they do. From Python also a depth in place of the sizes, and
options by keyword: ``spiking_vgg(16, norm="batch")``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.options import built, told
from equipoise.models.spiking_plan import read_plan
from equipoise.models.styles import image_sizes, integers
from equipoise.models.vgg import HEAVY, POOLS, VGG, known_depth, vgg
from equipoise.nn import OverTime

__all__ = ["spiking_mlp", "spiking_vgg"]

MLP: dict[int, tuple[int, ...]] = {
    2: (500,),
    4: (500, 500, 300),
    6: (500,) * 2 + (300,) * 3,
    8: (500,) * 2 + (300,) * 3 + (100,) * 2,
    12: (500,) * 4 + (300,) * 4 + (100,) * 3,
    16: (500,) * 5 + (300,) * 5 + (100,) * 5,
}


@register("spiking-vgg")
def spiking_vgg(text: str | int = "3x32x32-10", **options: Any) -> OverTime:
    """A VGG of spiking cells with inhibition instead of normalisation: spiking-vgg:3x32x32-10,depth=16,norm=batch

    An image of any size and the classes; depth=8, 11, 16 or 19; ``pool=max`` instead of average; ``head=heavy``: two
    hidden layers of 4096 before the readout; ``dropout`` behind every hidden layer. Other options: this module's head.
    A stage whose picture is one pixel high or wide is not pooled. E-I spiking paper; VGG-8 has five convolutions.
    """
    text = told(text, options, "3x32x32-10", "spiking-vgg")
    spec = f"spiking-vgg:{text}"
    sizes, plan = read_plan(text, spec, ("depth", "dropout", "pool", "head"))
    (channels, height, width), classes = image_sizes(sizes, spec, "spiking-vgg:3x32x32-10")
    stages = [[*map(plan.wide, stage)] for stage in known_depth(8 if plan.depth is None else plan.depth, VGG, spec)]
    head = [*map(plan.wide, HEAVY)] if plan.head == "heavy" else []

    def build() -> OverTime:
        def hidden(before: int, units: int, kernel: int | None) -> list[nn.Module]:
            return [*plan.layer(before, units, kernel), *plan.dropped()]

        layers, features = vgg(plan.inputs(channels), (height, width), stages, head, hidden, POOLS[plan.pool])
        return plan.over_time([*layers, plan.readout(features, classes)])

    return built(spec, build)


@register("spiking-mlp")
def spiking_mlp(text: str | int = "784-500-10", **options: Any) -> OverTime:
    """Fully connected spiking cells with inhibition instead of normalisation: spiking-mlp:784-500-10,norm=ei

    Layer widths from input to classes; or input and classes alone with depth=2, 4, 6, 8, 12 or 16 weighted layers of
    500, 300 and 100 cells (the E-I spiking paper's). ``dropout`` behind every hidden layer. Input is flattened.
    """
    text = told(text, options, "784-500-10" if isinstance(text, str) else "784-10", "spiking-mlp")
    spec = f"spiking-mlp:{text}"
    sizes, plan = read_plan(text, spec, ("depth", "dropout"))
    first, *hidden, classes = integers(sizes, "-", spec, "spiking-mlp:784-500-10") + [0] * ("-" not in sizes)
    if plan.depth is not None:
        if hidden:
            raise InputError(f"model '{spec}': depth says the hidden widths; leave them out, as in 784-10,depth=4")
        hidden = [*known_depth(plan.depth, MLP, spec)]
    if not hidden or not classes:
        raise InputError(f"model '{spec}' needs an input, hidden widths or a depth, and classes, as in 784-500-10")

    def build() -> OverTime:
        layers: list[nn.Module] = [nn.Flatten()]
        widths = [plan.inputs(first), *map(plan.wide, hidden)]
        for before, units in pairwise(widths):
            layers += [*plan.layer(before, units), *plan.dropped()]
        return plan.over_time([*layers, plan.readout(widths[-1], classes)])

    return built(spec, build)
