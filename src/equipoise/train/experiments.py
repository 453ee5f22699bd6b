"""The registry of experiments: named studies, each a list of runs for every preset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from equipoise.errors import InputError, unknown_name
from equipoise.registry import Registry
from equipoise.train.spec import Run

__all__ = ["Experiment", "Study", "experiments"]


class Study(Protocol):
    """The options of an experiment, as a frozen dataclass, and the runs that they ask for."""

    def runs(self, seed: int) -> list[Run]:
        """The runs of the study for one seed."""
        ...


@dataclass(frozen=True)
class Experiment:
    """A table or figure that can be run: ``name`` like "pepita/table1", its ``source``, its presets by name.

    ``version`` goes into the hash of its runs; raise it when the code changes what a spec means.
    """

    name: str
    version: int
    title: str
    source: str
    presets: dict[str, Study]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.name):
            raise InputError(f"the experiment's name is {self.name!r}; write it like 'pepita/table1'")
        if self.version < 1:
            raise InputError(f"the experiment '{self.name}' has version {self.version}; start at 1")
        if not self.presets:
            raise InputError(f"the experiment '{self.name}' has no presets; give at least one")

    def preset(self, name: str) -> Study:
        """The study of the preset ``name``."""
        if name not in self.presets:
            raise unknown_name(f"preset of '{self.name}',", name, self.presets)
        return self.presets[name]


experiments: Registry[Experiment] = Registry("experiment")
