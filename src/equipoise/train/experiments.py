"""The registry of experiments: named studies, each a list of runs for every preset."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from equipoise.errors import InputError, unknown_name
from equipoise.registry import Registry
from equipoise.train.spec import Run
from equipoise.train.summary import Summary

__all__ = ["Experiment", "Staged", "Study", "experiments"]


class Study(Protocol):
    """The options of an experiment, as a frozen dataclass, and the runs that they ask for."""

    def runs(self, seed: int) -> list[Run]:
        """The runs of the study for one seed."""
        ...


@runtime_checkable
class Staged(Study, Protocol):
    """A study in two stages: the runs of the second depend on how those of the first ended.

    One with a method ``over(lines)``, its own budget for the lines of another study of its kind, lends the name of its
    preset to lines that a user adds.
    """

    def first(self) -> list[Run]:
        """The runs of the first stage; they have a seed of their own."""
        ...

    def after(self, outcomes: Sequence[Summary]) -> Study:
        """The second stage, given how the runs of ``first`` ended, in their order; diverged ones ended too."""
        ...


@dataclass(frozen=True)
class Experiment:
    """A table or figure that can be run: ``name`` like "pepita/table1", its ``source``, its presets by name.

    ``version`` goes into the hash of its runs; raise it when the code changes what a spec means.

    ``rows`` tells which finished runs it shows (rows as ``sweep.collect`` gives them); by default those that name it.
    A run that several experiments show names one of them, so that it is trained once. ``exhibits`` is a function of
    (rows, histories by hash, folder of the runs) that makes its own figures and tables (``papers.exhibits``).
    ``columns`` is a function of (row, its history) to more columns of a finished run, for its exhibits and its CSV.
    """

    name: str
    version: int
    title: str
    source: str
    presets: dict[str, Study]
    rows: Callable[[Mapping[str, Any]], bool] | None = None
    exhibits: Callable[..., list[Any]] | None = None
    columns: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], dict[str, Any]] | None = None

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

    @property
    def trains(self) -> bool:
        """Whether any preset has a run of its own, not only runs that another experiment names."""
        return any(run.experiment == self.name for study in self.presets.values() for run in study.runs(0))

    def shows(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row``, a run as ``sweep.collect`` gives it, belongs to this table or figure."""
        return row.get("experiment") == self.name if self.rows is None else self.rows(row)


experiments: Registry[Experiment] = Registry("experiment")
