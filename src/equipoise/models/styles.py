"""The texts behind a model's name: sizes such as 784-300-10, and options such as activation=tanh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.nn import BiPU, LocallyConnected2d, Normalise

__all__ = ["INITS", "Style", "image_shape", "image_sizes", "integers", "read_style", "started"]


def integers(text: str, separator: str, spec: str, form: str) -> list[int]:
    """Positive whole numbers in ``text``; else an ``InputError`` that shows the ``form`` that ``spec`` should have."""
    parts = text.split(separator)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"model '{spec}' does not read as {form}")
    return [int(part) for part in parts]


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "squared_relu": lambda: BiPU(2.0),
}
INITS: dict[str, Callable[..., Tensor] | None] = {
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
class Style:
    """The options of a network behind its sizes, as ``activation=tanh,bias=no``, read from text."""

    activation: str = "relu"
    bias: str = "yes"
    init: str = "torch"
    norm: str = "none"
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

    def normalised(self, width: int) -> list[nn.Module]:
        """What stands between a hidden layer and its activation: a normalisation without affine map, or nothing."""
        kinds = {"layer": Normalise, "batch": lambda: nn.BatchNorm1d(width, affine=False)}
        return [kinds[self.norm]()] if self.norm in kinds else []

    def after(self) -> list[nn.Module]:
        """What follows a hidden layer."""
        return [_ACTIVATIONS[self.activation](), *([nn.Dropout(self.rate)] if self.rate else [])]

    def start(self, network: nn.Sequential) -> nn.Sequential:
        """``started`` with ``init`` for every layer with weights."""
        for layer in network:
            if isinstance(layer, (nn.Linear, nn.Conv2d, LocallyConnected2d)):
                started(layer, self.init)
        return network


@torch.no_grad()
def started(layer: Any, init: str) -> Any:
    """The layer as drawn again by ``init``, n being the fan-in, with biases 0; torch's own start is left as it is.

    he_uniform: U(-sqrt(6 / n), sqrt(6 / n)); he_normal: N(0, 2 / n) (He et al. 2015).
    """
    initialise = INITS[init]
    if initialise is not None:
        # A local layer's last axis is its fan-in, as that of the matrix which its kernels make up.
        initialise(layer.weight.flatten(0, -2) if layer.weight.ndim == 3 else layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def read_style(text: str, spec: str, *, dropout: bool, norm: bool = False) -> tuple[str, Style]:
    """The sizes, and what the ``key=value`` pairs behind them say.

    ``dropout``, ``norm``: whether the network has any.
    """
    sizes, *pairs = text.split(",")
    split = [pair.partition("=") for pair in pairs]
    if not all(value for _, _, value in split):
        raise InputError(f"model '{spec}': options read key=value, separated by commas")
    options = {key.strip(): value.strip() for key, _, value in split}
    known: dict[str, tuple[str, ...]] = {
        "activation": tuple(_ACTIVATIONS),
        "bias": ("yes", "no"),
        "init": tuple(INITS),
    }
    if norm:
        known["norm"] = ("none", "layer", "batch")
    rates = ("dropout", "input_dropout") if dropout else ()
    wrong = [key for key, value in options.items() if value not in known.get(key, ()) and key not in rates]
    if wrong:
        said = [f"{key}=RATE" for key in rates] + [f"{key}={'|'.join(values)}" for key, values in known.items()]
        raise InputError(f"model '{spec}': options are {', '.join(said)}")
    style = Style(**options)
    if not (0 <= style.rate < 1 and 0 <= _rate(style.input_dropout) < 1):
        raise InputError(f"model '{spec}': dropout is a rate in [0, 1)")
    return sizes, style


def image_sizes(text: str, spec: str, form: str) -> tuple[list[int], int]:
    """The shape and the number of classes in a text such as 3x32x32-10."""
    image, _, classes = text.partition("-")
    shape, outputs = image_shape(image, spec, form), integers(classes, "-", spec, form)
    if len(outputs) != 1:
        raise InputError(f"model '{spec}' does not read as {form}")
    return shape, outputs[0]


def image_shape(text: str, spec: str, form: str) -> list[int]:
    """The channels, height and width in a text such as 3x32x32."""
    shape = integers(text, "x", spec, form)
    if len(shape) != 3:
        raise InputError(f"model '{spec}' does not read as {form}")
    return shape
