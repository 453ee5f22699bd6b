"""Comparisons at shared draws: conditions side by side, and what is varied beside them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import unknown_name
from equipoise.papers.inorm.conditions import CONDITIONS, Draw, Scale, draws, plain
from equipoise.train import Run

__all__ = ["Contrast", "Convolutional", "Paired", "Rules", "Stability"]

TAUGHT = tuple(name for name, one in CONDITIONS.items() if one.pepita)
COMPARED = ("ln", "none", "inorm", "center", "lateral", "full")


def _drawn(scale: Scale) -> list[Draw]:
    return draws(scale.draws, seed=scale.draw_seed, upper=scale.upper)


@dataclass(frozen=True)
class Paired:
    """Conditions side by side; a run is trained once, whichever experiment asks for it.

    Args:
        conditions: their names
        home: the experiment that the runs belong to; each condition's own if not given
        scale: how much is trained
    """

    DECIDES = ("home",)

    conditions: tuple[str, ...] = COMPARED
    home: str = ""
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """Draw by draw, so that what has finished at any time is whole pairs."""
        changes: dict[str, Any] = {"experiment": self.home} if self.home else {}
        return [
            plain(name, draw, shift, seed, self.scale, **changes)
            for draw in _drawn(self.scale)
            for shift in self.scale.ranges
            for name in self.conditions
        ]


@dataclass(frozen=True)
class Stability:
    """Accuracy against the learning rate of excitatory weights, everything else as in one middle draw.

    Args:
        conditions: their names
        rates: learning rates of W_EE and biases
        width: of both hidden layers
        scale: how much is trained
    """

    conditions: tuple[str, ...] = ("ln", "inorm", "center", "lateral", "full")
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    width: int = 234
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each rate and range, every condition. Inhibition keeps the rates of the program's defaults."""
        return [
            plain(name, Draw(self.width, rate, 0.6465, 0.00294), shift, seed, self.scale, experiment="inorm/stability")
            for rate in self.rates
            for shift in self.scale.ranges
            for name in self.conditions
        ]


@dataclass(frozen=True)
class Contrast:
    """Contrast that changes from image to image, in place of brightness.

    Args:
        conditions: their names
        contrasts: largest relative changes of contrast
        scale: how much is trained; its ranges do not count
    """

    conditions: tuple[str, ...] = ("ln", "none", "inorm", "center", "lateral")
    contrasts: tuple[float, ...] = (0.5, 1.0)
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """Draw by draw, each condition at each contrast."""
        return [
            plain(name, draw, 0.0, seed, self.scale, experiment="inorm/contrast", perturb={"contrast": contrast})
            for draw in _drawn(self.scale)
            for contrast in self.contrasts
            for name in self.conditions
        ]


@dataclass(frozen=True)
class Rules:
    """Is it the error that must be centred, also where it is not backpropagation's?

    Feedback alignment brings an error to each circuit, whose GradNorm takes the mean over units away. PEPITA has no
    error to bring; what it teaches with is the difference of two activities, h - h', and that is centred.

    Args:
        rules: their names
        conditions: their names
        pepita: conditions that PEPITA trains: plain networks, since it trains no circuit with a loss of its own
        scale: how much is trained
    """

    rules: tuple[str, ...] = ("fa", "dfa")
    conditions: tuple[str, ...] = ("ln", "inorm", "center", "lateral", "full")
    pepita: tuple[str, ...] = TAUGHT
    scale: Scale = field(default_factory=Scale)

    def __post_init__(self) -> None:
        for name in self.pepita:
            if name not in TAUGHT:
                raise unknown_name("condition that PEPITA trains,", name, TAUGHT)

    def runs(self, seed: int) -> list[Run]:
        """Draw by draw, each condition under each rule."""
        found = []
        for draw in _drawn(self.scale):
            for shift in self.scale.ranges:
                found += [
                    plain(name, draw, shift, seed, self.scale, experiment="inorm/rules", rule=rule)
                    for rule in self.rules
                    for name in self.conditions
                ]
                found += [plain(name, draw, shift, seed, self.scale) for name in self.pepita]
        return found


@dataclass(frozen=True)
class Convolutional:
    """Convolutions normalised over channels at each position, the bias behind that: many positions are black.

    Args:
        conditions: their names
        sizes: image, channels of the convolutions, classes
        scale: how much is trained; widths of its draws do not count
    """

    conditions: tuple[str, ...] = ("ln", "none", "after", "after-center", "after-lateral", "after-full")
    sizes: str = "3x32x32-32-64-10"
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """Draw by draw, each condition."""
        found = []
        for draw in _drawn(self.scale):
            for shift in self.scale.ranges:
                for name in self.conditions:
                    run = plain(name, draw, shift, seed, self.scale, experiment="inorm/conv")
                    kind, _, text = run.model.partition(":")
                    rest = text.partition(",")[1:]
                    found.append(dataclasses.replace(run, model=f"{kind}:{self.sizes}{''.join(rest)}"))
        return found
