"""What the GAIT-prop experiments compare, and the settings that the scaling paper's program has for it.

The program sums losses over the batch; ours are means. Under Adam the scale of a loss matters through epsilon, and
beside a penalty, alone; so both are divided by the batch size, 256, and the steps are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import InputError
from equipoise.registry import named
from equipoise.train import Run

__all__ = [
    "CONDITIONS",
    "CONTROLS",
    "LAMBDAS",
    "NETWORKS",
    "PAPER",
    "TABLE",
    "Condition",
    "Network",
    "Scale",
    "condition",
    "condition_of",
    "label_of",
    "network",
    "plain",
]

BATCH = 256


@dataclass(frozen=True)
class Network:
    """A network and its data. rates: learning rates, of FA and of all others; penalty: the paper's lambda.

    epsilons: Adam's, of FA and of all others, as the program has them beside a summed loss. betas: likewise.
    """

    sizes: str
    data: str
    home: str
    label: str
    rates: tuple[float, float]
    penalty: float
    epsilons: tuple[float, float] = (1e-4, 1e-6)
    betas: tuple[tuple[float, float], tuple[float, float]] = ((0.9, 0.99), (0.9, 0.999))
    batch_size: int = BATCH
    top_k: int = 0

    def model(self, condition: Condition) -> str:
        """The spec of the model that the condition trains."""
        return self.sizes + ("" if condition.auxiliary else ",auxiliary=no")


_CIFAR = {"rates": (2.5e-5, 1.9e-5), "penalty": 100.0}
_IMAGENET: dict[str, Any] = {"epsilons": (1e-4, 1e-8), "betas": ((0.9, 0.99), (0.9, 0.99)), "penalty": 1.0}
# On digits rates are ours: large enough to see something in a few epochs.
_DIGITS: dict[str, Any] = {"data": "digits", "rates": (1e-3, 1e-3), "penalty": 25.0, "batch_size": 64}
_FOLDER = "imagenet,fit=squash,normalise=yes"

NETWORKS = {
    "shallow": Network("invertible:3072-1024-1024-1024-10", "cifar10", "gait/shallow", "shallow", **_CIFAR),
    "deep": Network(f"invertible:3072-{'-'.join(['1024'] * 6)}-10", "cifar10", "gait/deep", "deep", **_CIFAR),
    "imagenet": Network(
        *("gait-imagenet:3x224x224-1000", _FOLDER, "gait/imagenet", "ImageNet", (4.3e-5, 4.9e-5)), **_IMAGENET, top_k=5
    ),
    "imagenet-cifar10": Network(
        *("gait-imagenet:3x32x32-10", "cifar10", "gait/imagenet", "the ImageNet network on CIFAR-10", (4.3e-5, 4.9e-5)),
        **_IMAGENET,
        top_k=5,
    ),
    "shallow-digits": Network("invertible:64-48-48-48-10", home="gait/shallow", label="shallow, digits", **_DIGITS),
    "deep-digits": Network(
        f"invertible:64-{'-'.join(['48'] * 6)}-10", home="gait/deep", label="deep, digits", **_DIGITS
    ),
    "imagenet-digits": Network(
        "gait-imagenet:1x8x8-10,width=0.25", home="gait/imagenet", label="convolutional, digits", **_DIGITS, top_k=5
    ),
}


@dataclass(frozen=True)
class Condition:
    """A rule with its options; ``strength`` is that of the upkeep in the paper's unit, None: the network's penalty.

    auxiliary: whether the network has auxiliary units. slow: FA's learning rate, betas and epsilon.
    """

    label: str
    rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: bool = True
    precision: str = "float32"
    strength: float | None = None
    slow: bool = False
    loss: str = "cross_entropy"

    def settings(self, network: Network) -> dict[str, Any]:
        """The fields of a run that the condition decides; a penalty's strength is for a mean loss."""
        options = dict(self.options)
        if options.get("upkeep") == "penalty":
            strength = network.penalty if self.strength is None else self.strength
            options["strength"] = strength / network.batch_size
        elif self.strength is not None:
            options["strength"] = self.strength
        place = 0 if self.slow else 1
        return {
            "rule": self.rule,
            "options": options,
            "model": network.model(self),
            "precision": self.precision,
            "loss": self.loss,
            "lr": network.rates[place],
            "optimizer_options": {
                "betas": list(network.betas[place]),
                "eps": network.epsilons[place] / network.batch_size,
            },
        }


def _gait(label: str, upkeep: str = "none", strength: float | None = None, **options: Any) -> Condition:
    return Condition(label, "gait", {**options, "upkeep": upkeep}, strength=strength)


def _targets(label: str, **options: Any) -> Condition:
    given = {"mode": "perturbation", **options, "upkeep": "penalty"}
    return Condition(label, "gait", given, precision="float64")


LAMBDAS = (0.1, 1.0, 10.0, 1000.0)  # 0 is no penalty, 100 the paper's own

CONDITIONS: dict[str, Condition] = {
    "bp": Condition("BP", "bp", auxiliary=False),
    "fa": Condition("FA", "fa", {"law": "orthogonal"}, auxiliary=False, slow=True),
    "gp": _targets("GP (targets, float64)", normalised=True, eta=1e-7),
    "vgp": _targets("vanilla GP (targets, float64)", normalised=False, gamma=1e-3),
    "difference": _gait("GP (differences, float32)", "penalty"),
    "mixed": dataclasses.replace(_gait("GP (differences, mixed precision)", "penalty"), precision="bfloat16"),
    "shallow": Condition("readout alone", "shallow", auxiliary=False),
    "bp-auxiliary": Condition("BP, auxiliary units", "bp"),
    "bp-penalty": _gait("BP, auxiliary units and penalty", "penalty", inverse="transpose"),
    "free": _gait("GP without penalty"),
    "penalty": Condition("penalty without task", "gait", {"upkeep": "penalty", "inverse": "transpose"}, loss="nothing"),
    "decoupled": _gait("decoupled penalty", "decoupled", 0.5),
    "probe": _gait("probe", "probe", 0.5),
    "retract": _gait("retraction, every 10 steps", "retract", every=10),
    "off-diagonal": _gait("off-diagonal penalty", "penalty", off_diagonal=True),
    **{f"lambda={one:g}": _gait(f"penalty, λ = {one:g}", "penalty", one) for one in LAMBDAS},
}
PAPER = ("bp", "gp", "vgp", "fa")
TABLE = (*PAPER, "difference", "mixed")
CONTROLS = ("shallow", "bp-auxiliary", "bp-penalty", "free", "penalty")


@dataclass(frozen=True)
class Scale:
    """How much is trained and measured; the paper trains everything, 200 epochs.

    Args:
        epochs: passes over the training set
        every: measure the angles on every so many batches (0: never)
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
        looks: held-out samples whose angles are measured after each epoch
    """

    epochs: int = 200
    every: int = 100
    train_limit: int | None = None
    test_limit: int | None = None
    looks: int = 256

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InputError(f"--every is {self.every}; give a number of steps, or 0 for never")


def network(name: str) -> Network:
    """The network ``name``; ``InputError`` for one that is not there."""
    return named(name, NETWORKS, "network of these experiments,")


def condition(name: str) -> Condition:
    """The condition ``name``; ``InputError`` for one that is not there."""
    return named(name, CONDITIONS, "condition")


def _home(what: str, one: Network) -> str:
    if what in TABLE:
        return one.home
    return "gait/controls" if what in CONTROLS else "gait/orthogonality"


def plain(where: str, what: str, seed: int, scale: Scale, **changes: Any) -> Run:
    """One condition on one network, with ``changes``; it is trained once, whichever experiment asks for it.

    No augmentation, no schedule, no validation split; the last epoch counts.
    """
    one, how = network(where), condition(what)
    fields = {
        "experiment": _home(what, one),
        "data": one.data,
        "optimizer": "adam",
        "batch_size": one.batch_size,
        "validation": 0.0,
        "measures": ["angles", "orthogonality"],
        "measure_batch": scale.looks,
        "measure_every": scale.every,
        "train_set": True,
        "top_k": one.top_k,
        "epochs": scale.epochs,
        "train_limit": scale.train_limit,
        "test_limit": scale.test_limit,
        "seed": seed,
        **how.settings(one),
    }
    return Run(**(fields | changes))


def condition_of(row: Mapping[str, Any]) -> str:
    """The name of the condition that a run, as ``sweep.collect`` gives it, trains; "" for none of them.

    The sizes of its network do not count.
    """
    given = {key.partition(".")[2]: value for key, value in row.items() if key.startswith("options.")}
    given = {key: value for key, value in given.items() if value is not None}
    kind, _, sizes = str(row.get("model")).partition(":")
    lean = "auxiliary=no" in sizes
    for where in NETWORKS.values():
        if (kind, row.get("data")) != (where.sizes.partition(":")[0], where.data):
            continue
        for name, how in CONDITIONS.items():
            wanted = how.settings(where)
            same = all(row.get(key) == wanted[key] for key in ("rule", "loss", "precision"))
            if same and wanted["options"] == given and lean != how.auxiliary:
                return name
    return ""


def label_of(row: Mapping[str, Any]) -> str:
    """What figures call the network of a run."""
    sizes = str(row.get("model")).removesuffix(",auxiliary=no")
    known = (one.label for one in NETWORKS.values() if (one.sizes, one.data) == (sizes, row.get("data")))
    return next(known, sizes)
