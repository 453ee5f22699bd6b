"""The reference networks of the papers on feedback, and a residual one that shares a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "identity": nn.Identity}
_INITS: dict[str, Callable[..., Tensor] | None] = {
    "torch": None,
    "he_uniform": nn.init.kaiming_uniform_,
    "he_normal": nn.init.kaiming_normal_,
}


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


@dataclass(frozen=True)
class _Style:
    """The options of a network behind its sizes, as ``activation=tanh,bias=no``, read from text."""

    activation: str = "relu"
    bias: str = "yes"
    init: str = "torch"
    dropout: str = "0"
    input_dropout: str = "0"

    @property
    def rate(self) -> float:
        """The dropout rate behind hidden layers; -1 for text that is no number."""
        return _rate(self.dropout)

    def entrance(self) -> list[nn.Module]:
        """What the input goes through before the first layer."""
        rate = _rate(self.input_dropout)
        return [nn.Flatten(), *([nn.Dropout(rate)] if rate else [])]

    def after(self) -> list[nn.Module]:
        """What follows a hidden layer."""
        return [_ACTIVATIONS[self.activation](), *([nn.Dropout(self.rate)] if self.rate else [])]

    @torch.no_grad()
    def start(self, network: nn.Sequential) -> nn.Sequential:
        """Draw the weights again, n being the fan-in, with biases 0; torch's own initialisation is left as it is.

        he_uniform: U(-sqrt(6 / n), sqrt(6 / n)); he_normal: N(0, 2 / n) (He et al. 2015).
        """
        initialise = _INITS[self.init]
        if initialise is not None:
            for layer in network:
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    initialise(layer.weight, nonlinearity="relu")
                    if layer.bias is not None:
                        layer.bias.zero_()
        return network


def _read(text: str, spec: str, *, dropout: bool) -> tuple[str, _Style]:
    """The sizes, and what the ``key=value`` pairs behind them say; ``dropout``: whether the network has any."""
    sizes, *pairs = text.split(",")
    split = [pair.partition("=") for pair in pairs]
    if not all(value for _, _, value in split):
        raise InputError(f"model '{spec}': options read key=value, separated by commas")
    options = {key.strip(): value.strip() for key, _, value in split}
    known = {"activation": tuple(_ACTIVATIONS), "bias": ("yes", "no"), "init": tuple(_INITS)}
    rates = ("dropout", "input_dropout") if dropout else ()
    wrong = [key for key, value in options.items() if value not in known.get(key, ()) and key not in rates]
    if wrong:
        said = [f"{key}=RATE" for key in rates] + [f"{key}={'|'.join(values)}" for key, values in known.items()]
        raise InputError(f"model '{spec}': options are {', '.join(said)}")
    style = _Style(**options)
    if not (0 <= style.rate < 1 and 0 <= _rate(style.input_dropout) < 1):
        raise InputError(f"model '{spec}': dropout is a rate in [0, 1)")
    return sizes, style


@register("mlp")
def mlp(text: str) -> nn.Sequential:
    """Fully connected, ReLU between layers, options behind a comma: mlp:784-300-10,dropout=0.1

    Layer widths from input to classes; the input is flattened. More options: ``activation=tanh`` (or sigmoid, or
    identity, which makes it linear), ``bias=no``, ``init=he_uniform`` or ``init=he_normal`` (biases then start at 0),
    and ``input_dropout=0.1`` for the input itself.
    """
    spec, form = f"mlp:{text}", "mlp:784-300-10"
    sizes, style = _read(text, spec, dropout=True)
    widths = _integers(sizes, "-", spec, form)
    if len(widths) < 2:
        raise InputError(f"model '{spec}' needs an input and an output width, as in {form}")
    layers: list[nn.Module] = style.entrance()
    for k, (width, wider) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width, wider, bias=style.bias == "yes"))
        if k < len(widths) - 2:
            layers += style.after()
    return style.start(nn.Sequential(*layers))


def _image_sizes(text: str, spec: str, form: str) -> tuple[list[int], int]:
    image, _, classes = text.partition("-")
    shape, outputs = _integers(image, "x", spec, form), _integers(classes, "-", spec, form)
    if len(shape) != 3 or len(outputs) != 1:
        raise InputError(f"model '{spec}' does not read as {form}")
    return shape, outputs[0]


@register("conv")
def conv(text: str = "3x32x32-10") -> nn.Sequential:
    """One convolution 32x5x5, ReLU, max-pooling 2x2, one readout: conv:3x32x32-10 (the PEPITA paper's network).

    Options behind a comma, as for mlp: ``activation``, ``bias``, ``init``.
    """
    sizes, style = _read(text or "3x32x32-10", f"conv:{text}", dropout=False)
    (channels, height, width), classes = _image_sizes(sizes, f"conv:{text}", "conv:3x32x32-10")
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
    (channels, _, _), classes = _image_sizes(text or "3x32x32-10", f"residual:{text}", "residual:3x32x32-10")
    return ResidualNet(channels, classes)
