"""Sorting finished runs for an exhibit: by preset, by what they play, by seed; and means of them over seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import sweep
from equipoise.measure.statistics import estimate
from equipoise.papers.exhibits import Exhibit, Exhibits, Figure, Histories, Number, Part, Row
from equipoise.plots import Series
from equipoise.train import Run

__all__ = [
    "MINUS",
    "bands",
    "curve",
    "fixed",
    "mean_and_sd",
    "named",
    "per_preset",
    "series",
    "split",
    "values_of",
    "with_diverged",
]

# What decides how a run trains, its seed aside; what is measured on the way is no part of that.
FIELDS = frozenset(item.name for item in dataclasses.fields(Run)) - {
    *("seed", "preset", "alignment_batch", "measures", "measure_batch", "measure_every", "train_set", "top_k"),
    "trace_every",
}
MINUS = "\N{MINUS SIGN}"


def per_preset(make: Exhibits) -> Exhibits:
    """Make the exhibits of each preset by itself, its name in every title: results of two protocols never mix.

    Smoke runs are left out where there are others, because they show only that the code runs.
    """

    @functools.wraps(make)
    def every(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        parts = split(rows, lambda row: str(row.get("preset") or ""))
        real = {preset: members for preset, members in parts.items() if not preset.startswith("smoke")}
        shown = real or parts
        return [
            _labelled(one, preset, alone=len(shown) == 1)
            for preset, members in shown.items()
            for one in make(members, histories, folder)
        ]

    return every


def _labelled(one: Exhibit, preset: str, *, alone: bool) -> Exhibit:
    """The exhibit with its preset in the title and, where there are others beside it, in a figure's name."""
    title = f"{one.title} (preset {preset})" if preset else one.title
    if isinstance(one, Figure):
        slug = "" if alone else "-" + re.sub(r"[^a-z0-9]+", "-", preset.lower()).strip("-")
        return dataclasses.replace(one, title=title, name=one.name + slug)
    return dataclasses.replace(one, title=title)


def split(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by ``key``, in its order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


def named(rows: Iterable[Row], role: Callable[[Row], str], *, order: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Runs that differ in their seed alone, by the name of the part that they play: ``order``, then by alphabet.

    Where specs that differ play one part, what differs is added to the name ("pepita, lr=0.05"), so that no mean is
    ever taken over two settings. A seed counts once, with the run of which most was measured.
    """
    found: dict[str, dict[tuple[tuple[str, str], ...], dict[int, Row]]] = {}
    for row in rows:
        members = found.setdefault(role(row), {}).setdefault(_spec(row), {})
        members[int(row["seed"])] = max(members.get(int(row["seed"]), row), row, key=len)
    places = {name: place for place, name in enumerate(order)}
    result: dict[str, list[Row]] = {}
    for name in sorted(found, key=lambda one: (places.get(one, len(places)), one)):
        common = set.intersection(*map(set, found[name]))
        for spec, members in found[name].items():
            told = [f"{key}={value}" for key, value in spec if (key, value) not in common]
            result[", ".join([name, *told])] = [members[seed] for seed in sorted(members)]
    return result


def _spec(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(
        (key, value if isinstance(value, str) else json.dumps(value))
        for key, value in sorted(row.items())
        if key.partition(".")[0] in FIELDS
    )


def series(values: Mapping[Any, Sequence[float]]) -> Series:
    """A drawable series from the values per seed at each x: the mean, and one standard deviation to each side."""
    found = [estimate(list(v)) for v in values.values()]
    low, high = [e.mean - e.sd for e in found], [e.mean + e.sd for e in found]
    return Series(tuple(values), [e.mean for e in found], low, high)


def curve(rows: Iterable[Row], histories: Histories, metric: str) -> Series:
    """The metric after each epoch over the seeds in ``rows``; epochs without it, or where it is null, are left out."""
    values: dict[Any, list[float]] = {}
    for row in rows:
        for epoch in histories.get(str(row.get("hash")), ()):
            if epoch.get(metric) is not None:
                values.setdefault(epoch["epoch"], []).append(float(epoch[metric]))
    return series(dict(sorted(values.items())))


def bands(groups: Mapping[str, Sequence[Row]]) -> str:
    """What a figure's title says of its bands, where there are any."""
    return "; bands: ± standard deviation over seeds" if any(len(rows) > 1 for rows in groups.values()) else ""


def values_of(rows: Iterable[Row], metric: str) -> list[float]:
    """The metric of each run that has it."""
    return [float(row[metric]) for row in rows if row.get(metric) is not None]


def mean_and_sd(values: Sequence[float], *, places: int = 2, sd: float | None = None) -> tuple[Part, ...]:
    """A mean and its standard deviation over seeds as a cell, with ``places`` decimals; one value stands alone.

    With ``sd`` given, ``values`` is a published mean and that is its deviation.
    """
    found = estimate(values)
    spread = found.sd if sd is None else sd
    mean = Number(found.mean, fixed(found.mean, places))
    return (mean, "±", Number(spread, fixed(spread, places))) if math.isfinite(spread) else (mean,)


def fixed(value: float, places: int, *, sign: bool = False) -> str:
    """A number with ``places`` decimals and a true minus; with ``sign`` also a plus, but none on what rounds to 0."""
    text = f"{value:{'+' if sign else ''}.{places}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def with_diverged(rows: Sequence[Row], folder: Path) -> list[Row]:
    """``rows`` and, beside them, the runs of the same experiments and presets that diverged."""
    known = {(row.get("experiment"), row.get("preset")) for row in rows}
    lost = [row for row in sweep.diverged(folder) if (row["experiment"], row["preset"]) in known]
    return [*rows, *lost]
