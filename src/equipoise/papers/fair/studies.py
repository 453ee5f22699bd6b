"""Two stages: every line tries the same rates on held-out images, and its best goes to the test set with many seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import InputError
from equipoise.papers.fair.conditions import CIRCUITS, IMAGES, METHODS, NETWORKS, Cell, Draw, check, draws, refused
from equipoise.train import Run, Summary

__all__ = ["HELD_OUT", "Circuits", "Compared", "Rules", "Scale", "Tuning", "best", "score"]

HELD_OUT = 0.1  # of the training images: what rates are chosen on, and what learning curves are read from


@dataclass(frozen=True)
class Scale:
    """How much is tuned and trained; a line's budget of tuning is draws x optimisers x tune_epochs, the same for all.

    Args:
        width: of hidden layers
        draws: learning rates tried for each optimiser
        tune_epochs: passes over the training images of a draw
        tune_limit: keep that many random training images for a draw
        tune_seed: of the draws' one run each, none of the comparison's own seeds
        epochs: passes over the training images in the comparison
        train_limit: keep that many random training images in the comparison
        test_limit: keep that many random test images
    """

    width: int = 256
    draws: int = 8
    tune_epochs: int = 10
    tune_limit: int | None = None
    tune_seed: int = 1000
    epochs: int = 30
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1 or self.tune_epochs < 1:
            raise InputError(f"--draws is {self.draws} and --tune-epochs {self.tune_epochs}; give at least 1")


def score(summary: Summary | Mapping[str, Any]) -> float:
    """What rates are chosen by: accuracy on the held-out images after the last epoch; 0 for a run that diverged."""
    if isinstance(summary, Summary):
        return summary.held_out
    return float(summary.get("validation_accuracy") or 0.0)


def best(tried: Sequence[Draw], outcomes: Sequence[Summary | Mapping[str, Any]]) -> Draw:
    """The draw whose run scored most, the lowest rate of equals."""
    return max(zip(tried, outcomes, strict=True), key=lambda pair: (score(pair[1]), -pair[0].rate))[0]


@dataclass(frozen=True)
class Compared:
    """Lines at one budget of tuning: ``first`` are the runs that try rates, ``runs`` those of the comparison.

    Before rates are chosen, ``runs`` has each line at the middle draw of its first optimiser.
    """

    DECIDES = ("chosen",)
    LINES = ("data",)
    HOME = "fair/rules"

    data: tuple[str, ...] = ("mnist",)
    optimisers: tuple[str, ...] = ("sgd", "adam")
    scale: Scale = field(default_factory=Scale)
    chosen: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> tuple[Sequence[str], Sequence[str]]:
        """Names of networks or circuits, and of methods, that make the lines together."""
        raise NotImplementedError

    def over(self, lines: Compared) -> Compared:
        """This budget for the lines of another comparison of its kind."""
        return dataclasses.replace(self, **{name: getattr(lines, name) for name in self.LINES})

    def cells(self) -> list[Cell]:
        """Every method at every place that does not refuse it, data set by data set."""
        places, methods = self.lines()
        return [
            Cell(data, place, name)
            for data in self.data
            for place in places
            for name in methods
            if not refused(place, name)
        ]

    def tried(self) -> list[Draw]:
        """The draws, which every line tries."""
        return draws(self.optimisers, self.scale.draws)

    def first(self) -> list[Run]:
        """Line by line, a run for each draw."""
        return self.tuning(self.scale.tune_seed)

    def tuning(self, seed: int) -> list[Run]:
        """``first`` with another seed than its own."""
        plain = Run(
            experiment=f"{self.HOME}-tuning",
            epochs=self.scale.tune_epochs,
            train_limit=self.scale.tune_limit,
            test_limit=1,  # the choice has nothing to learn from the test set
            validation=HELD_OUT,
            seed=seed,
        )
        lines, tried = [cell.on(plain, self.scale.width) for cell in self.cells()], self.tried()
        return [draw.on(line) for line in lines for draw in tried]

    def after(self, outcomes: Sequence[Summary]) -> Compared:
        """The study with each line's best draw, ``outcomes`` being those of ``first`` in its order."""
        tried, cells = self.tried(), self.cells()
        if len(outcomes) != len(tried) * len(cells):
            raise InputError(f"{len(cells)} lines tried {len(tried)} draws each; got {len(outcomes)} outcomes")
        parts = [outcomes[k * len(tried) : (k + 1) * len(tried)] for k in range(len(cells))]
        found = {str(cell): str(best(tried, part)) for cell, part in zip(cells, parts, strict=True)}
        return dataclasses.replace(self, chosen=found)

    def runs(self, seed: int) -> list[Run]:
        """One run for each line, at its chosen rate."""
        plain = Run(
            experiment=self.HOME,
            epochs=self.scale.epochs,
            train_limit=self.scale.train_limit,
            test_limit=self.scale.test_limit,
            validation=HELD_OUT,
            alignment_batch=256,
            measures=["step_cost"],
            measure_batch=64,
            seed=seed,
        )
        return [self._rate(cell).on(cell.on(plain, self.scale.width)) for cell in self.cells()]

    def _rate(self, cell: Cell) -> Draw:
        text = self.chosen.get(str(cell))
        if text is None:
            return self.tried()[self.scale.draws // 2]
        name, _, rate = str(text).partition(":")
        return Draw(name, float(rate))


@dataclass(frozen=True)
class Rules(Compared):
    """Every rule on the same networks, tuned alike.

    Args:
        methods: rules, and the controls on their networks
        networks: dense-1, dense-2, dense-4 (hidden layers), cnn
        data: data sets
        optimisers: sgd (momentum 0.9), adam, plain-sgd; each line's best counts
        scale: how much is tuned and trained
    """

    LINES = ("data", "methods", "networks")

    methods: tuple[str, ...] = tuple(METHODS)
    networks: tuple[str, ...] = ("dense-2",)

    def __post_init__(self) -> None:
        check(self.methods, METHODS, "method")
        check(self.networks, NETWORKS, "network")
        check(self.data, IMAGES, "data set")

    def lines(self) -> tuple[Sequence[str], Sequence[str]]:
        """Networks and methods."""
        return self.networks, self.methods


@dataclass(frozen=True)
class Circuits(Compared):
    """Every circuit under every rule, tuned alike.

    Args:
        circuits: normalised by a formula, by inhibition, or not at all
        rules: their names
        data: data sets
        optimisers: plain-sgd, which the circuits' papers take, or others
        scale: how much is tuned and trained
    """

    HOME = "fair/circuits"
    LINES = ("data", "circuits", "rules")

    optimisers: tuple[str, ...] = ("plain-sgd",)
    circuits: tuple[str, ...] = tuple(CIRCUITS)
    rules: tuple[str, ...] = ("bp", "fa", "dfa", "pepita")

    def __post_init__(self) -> None:
        check(self.circuits, CIRCUITS, "circuit")
        check(self.rules, METHODS, "rule")
        check(self.data, IMAGES, "data set")

    def lines(self) -> tuple[Sequence[str], Sequence[str]]:
        """Circuits and rules."""
        return self.circuits, self.rules


@dataclass(frozen=True)
class Tuning:
    """The draws of a comparison by themselves: its first stage.

    Args:
        of: the comparison
    """

    of: Compared = field(default_factory=Rules)

    def runs(self, seed: int) -> list[Run]:
        """Line by line, a run for each draw."""
        return self.of.tuning(seed)
