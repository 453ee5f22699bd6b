"""The reference networks of the papers on feedback, and a residual one that shares a layer."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register

__all__ = ["ResidualNet", "conv", "mlp"]


def _integers(text: str, separator: str, spec: str, form: str) -> list[int]:
    parts = text.split(separator)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"model '{spec}' does not read as {form}")
    return [int(part) for part in parts]


def _options(text: str, spec: str) -> tuple[str, dict[str, str]]:
    """The sizes, and the ``key=value`` pairs behind them."""
    sizes, *pairs = text.split(",")
    split = [pair.partition("=") for pair in pairs]
    if not all(value for _, _, value in split):
        raise InputError(f"model '{spec}': options read key=value, separated by commas")
    return sizes, {key.strip(): value.strip() for key, _, value in split}


@register("mlp")
def mlp(text: str) -> nn.Sequential:
    """Fully connected, ReLU between layers, options behind a comma: mlp:784-300-10,dropout=0.1

    Layer widths from input to classes; the input is flattened. ``activation=tanh`` and ``bias=no`` are options too.
    """
    spec, form = f"mlp:{text}", "mlp:784-300-10"
    sizes, options = _options(text, spec)
    widths = _integers(sizes, "-", spec, form)
    if len(widths) < 2:
        raise InputError(f"model '{spec}' needs an input and an output width, as in {form}")
    activations = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    unknown = set(options) - {"dropout", "activation", "bias"}
    activation = options.get("activation", "relu")
    if unknown or activation not in activations or options.get("bias", "yes") not in ("yes", "no"):
        raise InputError(f"model '{spec}': options are dropout=RATE, activation={'|'.join(activations)}, bias=yes|no")
    try:
        rate = float(options.get("dropout", 0))
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1:
        raise InputError(f"model '{spec}': dropout is a rate in [0, 1)")
    dropout = [nn.Dropout(rate)] if rate else []
    layers: list[nn.Module] = [nn.Flatten()]
    bias = options.get("bias", "yes") == "yes"
    for k, (width, wider) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width, wider, bias=bias))
        if k < len(widths) - 2:
            layers += [activations[activation](), *dropout]
    return nn.Sequential(*layers)


def _image_sizes(text: str, spec: str, form: str) -> tuple[list[int], int]:
    image, _, classes = text.partition("-")
    shape, outputs = _integers(image, "x", spec, form), _integers(classes, "-", spec, form)
    if len(shape) != 3 or len(outputs) != 1:
        raise InputError(f"model '{spec}' does not read as {form}")
    return shape, outputs[0]


@register("conv")
def conv(text: str = "3x32x32-10") -> nn.Sequential:
    """One convolution 32x5x5, ReLU, max-pooling 2x2, one readout: conv:3x32x32-10 (the PEPITA paper's network)."""
    (channels, height, width), classes = _image_sizes(text or "3x32x32-10", f"conv:{text}", "conv:3x32x32-10")
    features = 32 * ((height - 4) // 2) * ((width - 4) // 2)
    if features <= 0:
        raise InputError(f"conv:{text}: a 5x5 convolution and 2x2 pooling need images of 6x6 or more")
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(features, classes)
    )


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
    (channels, _, _), classes = _image_sizes(text or "3x32x32-10", f"residual:{text}", "residual:3x32x32-10")
    return ResidualNet(channels, classes)
