"""Published numbers: each with its page or table, and which of our runs it is to be compared with."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.errors import InputError
from equipoise.train import experiments

__all__ = ["Published", "read_published"]


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    ``match`` picks, among the runs that ``experiment`` shows, those to compare with, by fields of their spec.
    ``metric`` is the column of theirs that it compares with, times ``factor`` to be in the paper's unit; with ``epoch``
    it is the value after that epoch, not the final one. ``sd`` is the paper's own over its ``runs``. ``caution`` says
    what differs.
    """

    experiment: str
    quantity: str
    value: float
    source: str
    metric: str
    sd: float | None = None
    runs: int | None = None
    unit: str = ""
    factor: float = 1.0
    match: Mapping[str, Any] = field(default_factory=dict)
    caution: str = ""
    epoch: int | None = None

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row``, a finished run as ``sweep.collect`` gives it, is one that this number compares with."""
        name = self.experiment
        shown = experiments[name].shows(row) if name in experiments else row.get("experiment") == name
        return shown and all(row.get(k) == v for k, v in self.match.items())


def read_published(path: Path) -> list[Published]:
    """The numbers in a ``published.toml``; ``InputError`` naming the entry that does not fit."""
    with path.open("rb") as file:
        table = tomllib.load(file)
    found = []
    for k, entry in enumerate(table.get("number", [])):
        try:
            found.append(Published(**entry))
        except TypeError as error:
            raise InputError(f"entry {k} of {path.name} does not fit: {error}") from None
    return found
