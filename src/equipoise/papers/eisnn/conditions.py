"""What the spiking experiments compare, and the paper's training recipes: networks, data, rates, epochs, by name.

Learning rates, warm-up, batch sizes and weight decay are those of the paper's configurations. Where it has none (BN
twins of VGG-8 and 11, everything on MNIST, Fashion-MNIST, moving digits and sequences) the nearest recipe is taken, and
the network says so with ``ours``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import InputError
from equipoise.papers.eisnn.networks import NETWORKS, Network, options_of
from equipoise.registry import named
from equipoise.train import Run

__all__ = ["BASELINE", "CONDITIONS", "RATIOS", "Condition", "Scale", "condition", "condition_of", "network", "plain"]

BASELINE = "ei"
BATCHNORM = {"lr": 0.1, "weight_decay": 1e-4}  # the paper's, for every BN twin; no warm-up
ADAM = 1e-3  # its usual rate, for circuits and twins alike, without weight decay


@dataclass(frozen=True)
class Condition:
    """A variant of a spiking network: ``options`` of its model, and what a reader calls it.

    batchnorm: trained by the recipe of the BN twins. start: whether E-I Init looks at training data. rule: who teaches.
    """

    label: str
    options: str = ""
    batchnorm: bool = False
    start: bool = True
    rule: str = "bp"
    rule_options: Mapping[str, Any] = field(default_factory=dict)


RATIOS = {"ratio=1": 1.0, "ratio=0.5": 0.5, "ratio=0.125": 0.125, "ratio=0.0625": 0.0625}  # and 0.25, the paper's: "ei"

CONDITIONS: dict[str, Condition] = {
    "ei": Condition("E-I"),
    "literal": Condition("E-I, 1/d on the gradient alone", "scaling=gradient"),
    "batch": Condition("BN", "norm=batch", batchnorm=True, start=False),
    "none": Condition("no normalisation", "norm=none", start=False),
    "no-init": Condition("no E-I Init (all gains 1)", "unit_gains=yes", start=False),
    "presumed": Condition("E-I Init for presumed spikes", start=False),
    "no-stabilisation": Condition("no stabilisation", "stabilise=no"),
    "no-straight": Condition("no straight-through", "straight=no"),
    "no-scaling": Condition("no 1/d", "scaling=none"),
    # E-I Init refuses these two: without division the cells of the first layers are silent, without subtraction they
    # spike in every step, so that the next layer's input has no moments to go by.
    "no-division": Condition("no division", "divisive=no", start=False),
    "no-subtraction": Condition("no subtraction", "subtractive=no", start=False),
    "recurrent": Condition("E-I, recurrent", "recurrent=yes"),
    "spiking-inhibition": Condition("E-I, inhibition spikes", "inhibition=spiking"),
    **{name: Condition(f"E-I, {round(1 / value)}:1", f"ratio={value:g}") for name, value in RATIOS.items()},
    "fa": Condition("E-I, FA", rule="fa"),
    "dfa": Condition("E-I, DFA", rule="dfa"),
    "batch-fa": Condition("BN, FA", "norm=batch", batchnorm=True, start=False, rule="fa"),
    "batch-dfa": Condition("BN, DFA", "norm=batch", batchnorm=True, start=False, rule="dfa"),
}


@dataclass(frozen=True)
class Scale:
    """How much is trained; left out, all of the recipe.

    Args:
        epochs: passes over the training set; the recipe's own if not given. Warm-up keeps its share of them
        width: channels, as a share of the network's
        steps: time steps; the network's own if not given. Event data are cut into as many frames
        rate: multiplies every learning rate
        optimizer: sgd, the paper's with momentum; or adam, at 0.001 without weight decay for circuits and twins alike
        clip: largest norm of the whole gradient; the paper has none
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
        validation: fraction of the training set held out
        looks: held-out samples whose spikes and currents are measured after each epoch
    """

    epochs: int | None = None
    width: float = 1.0
    steps: int | None = None
    rate: float = 1.0
    optimizer: str = "sgd"
    clip: float | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    validation: float = 0.0
    looks: int = 100

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "width", "rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name} is {value}; it must be above 0")
        if self.optimizer not in ("sgd", "adam"):
            raise InputError(f"--optimizer is '{self.optimizer}'; these experiments know sgd and adam")


def network(name: str) -> Network:
    """The network ``name``; ``InputError`` for one that is not there."""
    return named(name, NETWORKS, "network of these experiments,")


def condition(name: str) -> Condition:
    """The condition ``name``; ``InputError`` for one that is not there."""
    return named(name, CONDITIONS, "condition")


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def plain(where: str | Network, what: str, seed: int, scale: Scale, **changes: Any) -> Run:
    """One condition on one network, with ``changes``: the last epoch counts, nothing is selected on test images."""
    one, how = network(where) if isinstance(where, str) else where, condition(what)
    epochs = scale.epochs or one.epochs
    warmup = 0.0 if how.batchnorm else one.warmup * epochs / one.epochs
    adam = scale.optimizer == "adam"
    rate = ADAM if adam else BATCHNORM["lr"] if how.batchnorm else one.rate
    decay = BATCHNORM["weight_decay"] if how.batchnorm else one.decay
    fields = {
        "experiment": one.home,
        "model": one.text(width=scale.width, steps=scale.steps, options=how.options),
        "data": one.frames(scale.steps),
        "rule": how.rule,
        "options": dict(how.rule_options),
        "lr": scale.rate * rate,
        "optimizer": scale.optimizer,
        "optimizer_options": {} if adam else {"momentum": 0.9, "weight_decay": decay},
        "scheduler": "warmup_cosine",
        "scheduler_options": {"warmup": _short(warmup), "start": _short(one.start / one.rate)} if warmup else {},
        "init_batch": one.batch if how.start else 0,
        "epochs": epochs,
        "batch_size": one.batch,
        "augment": one.augment,
        "clip_norm": scale.clip,
        "validation": scale.validation,
        "train_limit": scale.train_limit,
        "test_limit": scale.test_limit,
        "measures": ["spiking"],
        "measure_batch": scale.looks,
        "seed": seed,
    }
    return Run(**(fields | changes))


def condition_of(row: Mapping[str, Any]) -> str:
    """The name of the condition that a run, as ``sweep.collect`` gives it, trains; "" for none of them.

    Width, depth and number of steps do not count.
    """
    text = str(row.get("model"))
    if not text.startswith("spiking-"):
        return ""
    given = options_of(text)
    for name, how in CONDITIONS.items():
        same = given == set(how.options.split(",") if how.options else ()) and row.get("rule") == how.rule
        if same and how.start == bool(row.get("init_batch")):
            return name
    return ""
