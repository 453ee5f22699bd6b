"""The reference networks of the papers on feedback, and a residual one that shares a layer."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.styles import image_sizes, integers, read_style

__all__ = ["ResidualNet", "conv", "mlp"]


@register("mlp")
def mlp(text: str) -> nn.Sequential:
    """Fully connected, ReLU between layers, options behind a comma: mlp:784-300-10,dropout=0.1

    Layer widths from input to classes; the input is flattened. More options: ``activation=tanh`` (or sigmoid,
    leaky_relu, squared_relu, or identity, which makes it linear), ``bias=no``, ``init=he_uniform`` or
    ``init=he_normal`` (biases then start at 0), ``input_dropout=0.1`` for the input itself, and ``norm=layer`` or
    ``norm=batch``, that normalisation without affine map before each activation.
    """
    spec, form = f"mlp:{text}", "mlp:784-300-10"
    sizes, style = read_style(text, spec, dropout=True, norm=True)
    widths = integers(sizes, "-", spec, form)
    if len(widths) < 2:
        raise InputError(f"model '{spec}' needs an input and an output width, as in {form}")
    layers: list[nn.Module] = style.entrance()
    for k, (width, wider) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width, wider, bias=style.bias == "yes"))
        if k < len(widths) - 2:
            layers += [*style.normalised(wider), *style.after()]
    return style.start(nn.Sequential(*layers))


@register("conv")
def conv(text: str = "3x32x32-10") -> nn.Sequential:
    """One convolution 32x5x5, ReLU, max-pooling 2x2, one readout: conv:3x32x32-10 (the PEPITA paper's network).

    Options behind a comma, as for mlp: ``activation``, ``bias``, ``init``.
    """
    sizes, style = read_style(text or "3x32x32-10", f"conv:{text}", dropout=False)
    (channels, height, width), classes = image_sizes(sizes, f"conv:{text}", "conv:3x32x32-10")
    features = 32 * ((height - 4) // 2) * ((width - 4) // 2)
    if features <= 0:
        raise InputError(f"conv:{text}: a 5x5 convolution and 2x2 pooling need images of 6x6 or more")
    bias = style.bias == "yes"
    hidden = nn.Conv2d(channels, 32, 5, bias=bias)
    readout = nn.Linear(features, classes, bias=bias)
    return style.start(nn.Sequential(hidden, *style.after(), nn.MaxPool2d(2), nn.Flatten(), readout))


class ResidualNet(nn.Module):
    """A small residual network in which two blocks share one convolution.

    stem -> [shared conv + skip] x 2 -> strided conv with a projection shortcut -> block -> pool -> readout; every
    convolution is followed by batch norm. x (B, C, H, W), output (B, classes).
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(width)
        self.shared = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.shortcut = nn.Conv2d(width, 2 * width, 1, stride=2, bias=False)
        self.norm3 = nn.BatchNorm2d(2 * width)
        self.last = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(2 * width)
        self.readout = nn.Linear(4 * 2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        h = F.max_pool2d(F.relu(self.norm0(self.stem(x))), 2)
        h = F.relu(h + self.norm1(self.shared(h)))
        h = F.relu(h + self.norm2(self.shared(h)))
        h = F.relu(self.norm3(self.down(h)) + self.shortcut(h))
        h = F.relu(h + self.norm4(self.last(h)))
        return self.readout(torch.flatten(F.adaptive_avg_pool2d(h, 2), 1))


@register("residual")
def residual(text: str = "3x32x32-10") -> ResidualNet:
    """A small residual network with batch norm in which two blocks share one convolution: residual:3x32x32-10"""
    (channels, _, _), classes = image_sizes(text or "3x32x32-10", f"residual:{text}", "residual:3x32x32-10")
    return ResidualNet(channels, classes)
