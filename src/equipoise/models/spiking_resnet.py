"""Residual networks of spiking cells whose branches add their spikes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from equipoise.models.catalogue import register
from equipoise.models.options import built, told
from equipoise.models.spiking_plan import Plan, read_plan
from equipoise.models.styles import image_sizes
from equipoise.models.vgg import known_depth
from equipoise.nn import OverTime
from equipoise.nn.chain import run_rows, stream

__all__ = ["SpikeAdd", "spiking_resnet"]

RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # blocks of each stage
WIDTHS = (64, 128, 256, 512)


class SpikeAdd(nn.Module):
    """A residual block that adds spikes to spikes: y = body(x) + shortcut(x).

    Both end in spiking cells, or the shortcut is the input itself, so y counts spikes: whole numbers, at most one more
    than x holds, or at most 2 behind a shortcut with cells of its own. x (T B, C, H, W). ``step`` is the same for one
    frame (B, C, H, W), with the states of all cells within.
    """

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of both branches."""
        return run_rows(self.body, x) + run_rows(self.shortcut, x)

    def step(self, x: Tensor, states: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """(the spikes of both branches, the states for the next step) in one step."""
        after: dict[str, Any] = {}
        both = [
            stream(branch, x, states or {}, after, name)
            for name, branch in (("body", self.body), ("shortcut", self.shortcut))
        ]
        return both[0] + both[1], after


def _block(plan: Plan, before: int, units: int, stride: int) -> SpikeAdd:
    body = nn.Sequential(*plan.layer(before, units, 3, stride), *plan.layer(units, units, 3))
    same = before == units and stride == 1
    return SpikeAdd(body, nn.Sequential(*([] if same else plan.layer(before, units, 1, stride))))


@register("spiking-resnet")
def spiking_resnet(text: str | int = "3x32x32-10", **options: Any) -> OverTime:
    """A residual network of spiking cells whose branches add spikes: spiking-resnet:3x32x32-10,norm=batch

    An image of any size and the classes; depth=18 or 34. A convolution 3x3 of 64 channels without pooling, four stages
    of two-layer blocks with 64 to 512 channels, the later three with stride 2 and a shortcut 1x1 with cells of its own,
    the mean over all positions, the readout. Options as for spiking-vgg, but for pool, head and dropout.
    """
    text = told(text, options, "3x32x32-10", "spiking-resnet")
    spec = f"spiking-resnet:{text}"
    sizes, plan = read_plan(text, spec, ("depth",))
    (channels, _, _), classes = image_sizes(sizes, spec, "spiking-resnet:3x32x32-10")
    blocks = known_depth(18 if plan.depth is None else plan.depth, RESNET, spec)

    def build() -> OverTime:
        before = plan.wide(WIDTHS[0])
        layers: list[nn.Module] = plan.layer(plan.inputs(channels), before, 3)
        for stage, (units, count) in enumerate(zip(map(plan.wide, WIDTHS), blocks, strict=True)):
            for place in range(count):
                layers.append(_block(plan, before, units, 2 if stage and not place else 1))
                before = units
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), plan.readout(before, classes)]
        return plan.over_time(layers)

    return built(spec, build)
