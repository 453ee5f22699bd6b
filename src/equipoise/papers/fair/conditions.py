"""What the fair comparisons compare: rules and circuits, networks and data, and the draws of their learning rates.

Equal for all: data, splits, preprocessing (pixels in [0, 1], nothing else), batch size, loss, epochs, seeds, and the
draws of optimiser and learning rate. A rule's other options are the library's defaults, stated with the rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from equipoise.errors import InputError, unknown_name
from equipoise.randomness import generator
from equipoise.registry import named
from equipoise.sweep import LogUniform
from equipoise.train import Run

__all__ = [
    "CIRCUITS",
    "IMAGES",
    "METHODS",
    "NETWORKS",
    "RANGES",
    "REFUSED",
    "Cell",
    "Circuit",
    "Draw",
    "Method",
    "cell_of",
    "check",
    "draws",
    "refused",
]

# Pixels as a vector, and as an image.
IMAGES = {
    "digits": ("64", "1x8x8"),
    "mnist": ("784", "1x28x28"),
    "fashion-mnist": ("784", "1x28x28"),
    "cifar10": ("3072", "3x32x32"),
}
# Hidden layers of the dense networks; the small convolutional one has two.
NETWORKS = {"dense-1": 1, "dense-2": 2, "dense-4": 4, "cnn": 0}
CHANNELS = "16-32"
# Learning rates, drawn on a logarithmic scale. Plain SGD needs ten times the rate of SGD with momentum 0.9.
RANGES = {"sgd": (1e-4, 1.0), "adam": (1e-5, 1e-1), "plain-sgd": (1e-3, 10.0)}
_OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"momentum": 0.9}),
    "adam": ("adam", {}),
    "plain-sgd": ("sgd", {}),
}


@dataclass(frozen=True)
class Method:
    """A rule with its options on one of the networks' ``kind``: plain (ReLU), tanh, or the invertible twin.

    The twin has as many units, leaky ReLU, orthogonal weights at the start and auxiliary units in its readout.
    """

    label: str
    rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "plain"


_RETRACTED = {"upkeep": "retract", "every": 10}
METHODS: dict[str, Method] = {
    "bp": Method("BP", "bp"),
    "fa": Method("FA", "fa"),
    "dfa": Method("DFA", "dfa"),
    "dfa-sign": Method("DFA, signs alone", "dfa", {"sign": True}),
    "usf": Method("sign-symmetric (uSF)", "usf"),
    "drtp": Method("DRTP", "drtp"),
    "pepita": Method("PEPITA", "pepita"),
    "shallow": Method("readout alone", "shallow"),
    "bp-tanh": Method("BP, tanh (control)", "bp", kind="tanh"),
    "drtp-tanh": Method("DRTP, tanh", "drtp", kind="tanh"),
    "bp-twin": Method("BP, invertible twin (control)", "bp", kind="twin"),
    "tp": Method("TP, invertible twin", "tp", _RETRACTED, "twin"),
    "dtp": Method("DTP, invertible twin", "dtp", kind="twin"),
    "gait": Method("GAIT, invertible twin", "gait", _RETRACTED, "twin"),
}


@dataclass(frozen=True)
class Circuit:
    """A circuit by its model and options; ``rates`` are those of parameters that a loss of their own trains."""

    label: str
    kind: str
    options: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)


# The rates of the I-Norm program's defaults for inhibition, which no label trains.
_OWN = {"*_ie": 0.6465, "*_ei": 0.00294}
CIRCUITS: dict[str, Circuit] = {
    "none": Circuit("no norm", "mlp"),
    "ln": Circuit("LN", "mlp", "norm=layer"),
    "bn": Circuit("BN", "mlp", "norm=batch"),
    "dale": Circuit("E-I cells, no norm", "dale"),
    "dale-ln": Circuit("E-I cells, LN", "dale", "norm=layer"),
    "dale-bn": Circuit("E-I cells, BN", "dale", "norm=batch"),
    "dann": Circuit("DANN", "dann"),
    "inorm": Circuit("I-Norm", "inorm", "bias=after", _OWN),
    "lateral": Circuit("I-Norm + lateral", "inorm", "bias=after,gradnorm=lateral", _OWN),
}

_POOLING = "max-pooling has no inverse, so the network has no invertible twin"
_CHAIN = "PEPITA trains chains of plain layers, and this circuit has layers of its own"
_NORM = "PEPITA runs each layer's difference through what follows it, and batch norm mixes samples there"
# Which cells a rule or a network refuses, by (network, method) and (circuit, rule); a test asks the rules themselves.
REFUSED: dict[tuple[str, str], str] = {
    **{("cnn", name): _POOLING for name in ("bp-twin", "tp", "dtp", "gait")},
    **{(name, "pepita"): _CHAIN for name in ("dale", "dale-ln", "dale-bn", "dann", "inorm", "lateral")},
    ("bn", "pepita"): _NORM,
}


def refused(place: str, name: str) -> str:
    """Why the method ``name`` is not on the network (or circuit) ``place``; "" where it is."""
    return REFUSED.get((place, name), "")


@dataclass(frozen=True)
class Draw:
    """An optimiser by its name in ``RANGES``, and a learning rate; ``edge``: lowest or highest of its draws."""

    optimiser: str
    rate: float
    edge: str = ""

    def on(self, run: Run) -> Run:
        """``run`` with this optimiser and rate."""
        name, options = _OPTIMISERS[self.optimiser]
        return dataclasses.replace(run, optimizer=name, optimizer_options=dict(options), lr=self.rate)

    def __str__(self) -> str:
        return f"{self.optimiser}:{self.rate:g}"


def draws(optimisers: Sequence[str], count: int, *, seed: int = 0) -> list[Draw]:
    """``count`` rates for each optimiser, one from each of ``count`` equal parts of its range in the logarithm.

    rate = low (high / low)^((k + u) / count), u ~ U[0, 1), k = 0 .. count - 1; kept to four digits.
    """
    found = []
    for name in optimisers:
        if name not in RANGES:
            raise unknown_name("optimiser of these experiments,", name, RANGES)
        for k in range(count):
            u = float(torch.rand((), generator=generator(seed, "fair draws", name, k), dtype=torch.float64))
            rate = LogUniform(*RANGES[name]).at((k + u) / count)
            edge = "" if count < 3 else {0: "low", count - 1: "high"}.get(k, "")
            found.append(Draw(name, rate, edge))
    return found


@dataclass(frozen=True)
class Cell:
    """One line of a comparison: a method of ``METHODS`` on a network, or a rule on a circuit, with its data.

    ``place``: the network, or the circuit.
    """

    data: str
    place: str
    name: str

    @property
    def circuit(self) -> bool:
        """Whether this is a line of ``fair/circuits``."""
        return self.place in CIRCUITS

    @property
    def method(self) -> Method:
        """The rule with its options."""
        return METHODS[self.name]

    def model(self, width: int) -> str:
        """The text of its network, with hidden layers of that width."""
        flat, image = IMAGES[self.data]
        if self.circuit:
            circuit = CIRCUITS[self.place]
            text = f"{circuit.kind}:{flat}-{width}-{width}-10"
            return f"{text},{circuit.options}" if circuit.options else text
        kind = self.method.kind
        if self.place == "cnn":
            text = f"cnn:{image}-{CHANNELS}-10"
        else:
            hidden = f"{width}-" * NETWORKS[self.place]
            text = f"{'invertible' if kind == 'twin' else 'mlp'}:{flat}-{hidden}10"
        leaky = kind == "twin" and self.place == "cnn"  # what a twin of it would be, were it not for the pooling
        return text + (",activation=tanh" if kind == "tanh" else ",activation=leaky_relu" if leaky else "")

    def on(self, run: Run, width: int) -> Run:
        """``run`` on this line's data, network and rule."""
        own = dict(CIRCUITS[self.place].rates) if self.circuit else {}
        fields = {"data": self.data, "model": self.model(width), "rule": self.method.rule, "group_rates": own}
        return dataclasses.replace(run, **fields, options=dict(self.method.options))

    def __str__(self) -> str:
        return f"{self.data}/{self.place}/{self.name}"


def cell_of(row: Mapping[str, Any]) -> Cell | None:
    """The line that a run, as ``sweep.collect`` gives it, belongs to; None for none. Widths do not count."""
    data, text = str(row.get("data")), str(row.get("model"))
    given = {k.partition(".")[2]: v for k, v in row.items() if k.startswith("options.") and v is not None}
    rules = [name for name, one in METHODS.items() if (one.rule, dict(one.options)) == (row.get("rule"), given)]
    sizes = text.partition(",")[0].split("-")
    if data not in IMAGES or len(sizes) < 3:
        return None
    width = int(sizes[1]) if sizes[1].isdecimal() else 0
    places = CIRCUITS if str(row.get("experiment")).startswith("fair/circuits") else NETWORKS
    found = (Cell(data, place, name) for place in places for name in rules if not refused(place, name))
    return next((one for one in found if one.model(width) == text), None)


def check(names: Sequence[str], known: Mapping[str, Any], what: str) -> None:
    """Raise ``InputError`` for a name that is not there, or for none at all."""
    if not names:
        raise InputError(f"a comparison needs at least one {what}")
    for name in names:
        named(name, known, f"{what} of these experiments,")
