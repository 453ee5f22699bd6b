"""The networks of the spiking experiments with their data and recipes, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NETWORKS", "Network", "options_of"]

_SHAPE = ("depth", "width", "steps", "encoder", "onoff", "head", "dropout")  # options that are not a condition's


@dataclass(frozen=True)
class Network:
    """A spiking network, its data, and how the paper trains its E-I form.

    model: its text up to the number of steps. rate: the learning rate; decay: L2, on everything; warmup: in epochs;
    start: its first learning rate. ours: the paper has no such configuration.
    """

    model: str
    data: str
    home: str
    label: str
    rate: float = 1e-3
    warmup: float = 30.0
    epochs: int = 300
    batch: int = 128
    decay: float = 5e-4
    steps: int = 4
    augment: str = "none"
    start: float = 1e-7
    ours: bool = False

    def text(self, *, width: float = 1.0, steps: int | None = None, options: str = "") -> str:
        """The text of the model with a share ``width`` of its channels, so many ``steps``, and more ``options``."""
        words = [self.model]
        words += [f"width={width:g}"] if width != 1 else []
        words += [f"steps={steps or self.steps}"]
        return ",".join([*words, *([options] if options else [])])


def options_of(text: str) -> set[str]:
    """The options in a model's text that make a condition: not its size, depth, steps or encoder."""
    words = text.partition(":")[2].split(",")[1:]
    return {word for word in words if word.partition("=")[0] not in _SHAPE}


_CIFAR = "crop+cutout+flip"


def _cifar10(depth: int, rate: float, warmup: float) -> Network:
    model = f"spiking-vgg:3x32x32-10,depth={depth}"
    return Network(model, "cifar10", "eisnn/cifar10", f"VGG-{depth}", rate, warmup, augment=_CIFAR)


def _cifar100(depth: int) -> Network:
    model = f"spiking-vgg:3x32x32-100,depth={depth}"
    return Network(model, "cifar100", "eisnn/cifar100", f"VGG-{depth}", augment=_CIFAR)


# The recipe of VGG-8 on CIFAR-10, the nearest that the paper has.
_OURS: dict[str, Any] = {"rate": 2e-3, "warmup": 10.0, "ours": True}


def _dense(sizes: str, data: str, home: str, *, batch: int = 128) -> Network:
    return Network(f"spiking-mlp:{sizes}", data, home, f"MLP {sizes}", batch=batch, **_OURS)


NETWORKS: dict[str, Network] = {
    "vgg8": _cifar10(8, 2e-3, 10.0),
    "vgg11": _cifar10(11, 2e-3, 10.0),
    "vgg16": _cifar10(16, 1e-3, 30.0),
    "vgg19": _cifar10(19, 1e-3, 30.0),
    "resnet18": Network("spiking-resnet:3x32x32-10", "cifar10", "eisnn/cifar10", "ResNet-18", augment=_CIFAR),
    "cifar100-vgg16": _cifar100(16),
    "cifar100-vgg19": _cifar100(19),
    "mnist": _dense("784-500-500-10", "mnist", "eisnn/mnist"),
    "fashion": _dense("784-500-500-10", "fashion-mnist", "eisnn/fashion"),
    "digits-mnist": _dense("64-40-40-10", "digits", "eisnn/mnist", batch=32),
    "digits-fashion": _dense("64-40-40-10", "digits", "eisnn/fashion", batch=32),
    "digits-vgg": Network(
        "spiking-vgg:1x8x8-10,depth=8", "digits", "eisnn/cifar10", "VGG-8, digits", batch=32, **_OURS
    ),
}
