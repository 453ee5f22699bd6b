"""A sweep as a value: runs that print, hash, split into parts and count themselves in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import InputError
from equipoise.sweep.collect import collect, flat
from equipoise.sweep.status import Count, survey
from equipoise.train import Run

__all__ = ["Sweep", "changed"]


@dataclass(frozen=True)
class Sweep:
    """Runs, each different one once, in the order given.

    >>> from equipoise.sweep import LogUniform, draws, grid
    >>> rates = draws(10, lr=LogUniform(1e-3, 1e-1))
    >>> sweep = Sweep.cross(Run(epochs=1), rates, grid(rule=["bp", "fa"]))
    >>> len(sweep), len(sweep.part(2, 5)), [run.lr for run in sweep][0] == [run.lr for run in sweep][1]
    (20, 4, True)
    """

    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple({run.hash: run for run in self.runs}.values()))

    @classmethod
    def cross(cls, base: Run, *choices: Sequence[Mapping[str, Any]]) -> Sweep:
        """``base`` with one setting of every list in ``choices``, all combinations, the last list changing fastest.

        With draws first and conditions behind, every draw meets every condition (a paired design), and what has
        finished at any time is whole pairs. For the names of a setting see ``changed``. Raises ``InputError`` for a
        name that is in two of the lists.
        """
        runs = [base]
        fillings: list[dict[str, Any]] = [{}]
        taken: set[str] = set()
        for settings in choices:
            names = {name for setting in settings for name in setting}
            if twice := sorted(names & taken):
                raise InputError(f"'{twice[0]}' is in two lists of the sweep; give each name in one of them")
            taken |= names
            fillings = [{**one, **setting} for one in fillings for setting in settings]
        if choices:
            runs = [changed(base, filling) for filling in fillings]
        return cls(tuple(runs))

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over the hashes of the runs, whatever their order."""
        return hashlib.sha256(" ".join(sorted(run.hash for run in self.runs)).encode()).hexdigest()[:12]

    def part(self, which: int, of: int) -> Sweep:
        """Part ``which`` (from 1) of ``of``: every ``of``-th run, so that parts take about as long as one another."""
        if not 1 <= which <= of:
            raise InputError(f"there is no part {which}/{of}; write it like 2/5")
        return Sweep(self.runs[which - 1 :: of])

    def count(self, root: str | Path) -> Count:
        """How many of the runs are in which state under ``root``, and how long the rest takes."""
        return Count.of(survey(root, self.runs))

    def collect(self, root: str | Path, problems: list[str] | None = None) -> list[dict[str, Any]]:
        """The rows of the runs that have finished under ``root``."""
        names = {run.hash for run in self.runs}
        return [row for row in collect(root, problems=problems) if row["hash"] in names]

    def __str__(self) -> str:
        rows = [flat(run) for run in self.runs]
        counts = {name: len({repr(row.get(name)) for row in rows}) for row in rows[:1] for name in _names(rows)}
        varied = ", ".join(f"{number} {name}" for name, number in counts.items() if number > 1)
        return f"{len(self):,} runs ({self.hash}){': ' if varied else ''}{varied}"


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def changed(run: Run, setting: Mapping[str, Any]) -> Run:
    """``run`` with the values of ``setting`` in its fields.

    ``options.scale`` is an entry of the table ``options``; a name that is no field fills its braces in the text of
    the model, data and augmentation, as "mlp:784-{width}-10". Another optimiser or schedule comes with its own default
    options. Raises ``InputError`` for a name that is neither.
    """
    table = run.to_dict()
    if setting.get("optimizer", run.optimizer) != run.optimizer:
        table["optimizer_options"] = Run(optimizer=setting["optimizer"]).optimizer_options
    if setting.get("scheduler", run.scheduler) != run.scheduler:
        table["scheduler_options"] = {}
    texts = {name: table[name] for name in ("model", "data", "augment")}
    braces = {part for text in texts.values() for _, part, _, _ in string.Formatter().parse(text) if part}
    filled: dict[str, Any] = {}
    for name, value in setting.items():
        head, dot, rest = name.partition(".")
        if dot and isinstance(table.get(head), dict):
            table[head] = {**table[head], rest: value}
        elif name in table:
            table[name] = value
        elif name in braces:
            filled[name] = value
        else:
            known = [item.name for item in dataclasses.fields(Run)]
            raise InputError(
                f"'{name}' is no field of a run ({', '.join(known[:6])}, ...) and no {{{name}}} in its model"
            )
    for name in ("model", "data", "augment"):
        if filled and isinstance(table[name], str):
            table[name] = table[name].format_map({**{part: f"{{{part}}}" for part in braces}, **filled})
    return Run.from_json(table)
