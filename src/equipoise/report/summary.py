"""From the rows and histories of runs to what a page shows: groups over seeds, curves with intervals, run tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.measure.statistics import Estimate, estimate
from equipoise.plots import Series
from equipoise.report.comparison import decimals, plus_minus
from equipoise.report.content import MINUS, NOTHING, Cell, Code, Number, Table, csv_text

__all__ = ["Group", "curve", "group", "group_table", "layers", "outcome_table", "run_table", "series"]

Row = Mapping[str, Any]

# (heading, the keys that may hold it, the first found counts)
RUN_COLUMNS = (
    ("hash", ("hash",)),
    ("rule", ("rule",)),
    ("data", ("data",)),
    ("model", ("model",)),
    ("seed", ("seed",)),
    ("preset", ("preset",)),
    ("test accuracy", ("test_accuracy",)),
    ("epochs", ("epoch", "epochs")),
    ("seconds", ("seconds",)),
    ("device", ("device",)),
    ("threads", ("threads",)),
    ("commit", ("commit",)),
)
CODES = frozenset({"hash", "commit"})
WORDS = frozenset({"rule", "data", "model", "preset", "device", "commit"})
BY = ("experiment", "data", "model", "rule")
SHORT_COMMIT = 9
OUTCOMES = (
    ("test_accuracy", "test accuracy, %", 100.0),
    ("test_loss", "test loss", 1.0),
    ("distance", "distance", 1.0),
    ("validation_accuracy", "validation accuracy, %", 100.0),
)
OUTCOME = (
    "Test accuracy: mean ± half the 95 % Student interval over seeds. Angle to backprop: mean over the hidden layers. "
    "Seconds: one run's training, mean."
)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone: what they share, and one value per seed.

    ``settings`` names what is not the same in all groups beside it ("lr=0.1"); else it is empty.
    """

    key: tuple[str, ...]
    values: tuple[float, ...]
    presets: tuple[str, ...]
    hashes: tuple[str, ...]
    devices: tuple[str, ...]
    settings: str = ""

    @property
    def estimate(self) -> Estimate:
        """Mean and Student interval over the seeds."""
        return estimate(self.values)


def series(values: Mapping[Any, Sequence[float]], *, level: float = 0.95) -> Series:
    """A drawable series from the values per seed at each x: the mean and Student's interval."""
    found = [estimate(list(v), level=level) for v in values.values()]
    return Series(tuple(values), [e.mean for e in found], [e.low for e in found], [e.high for e in found])


def curve(histories: Iterable[Sequence[Row]], metric: str, *, x: str = "epoch") -> Series:
    """The metric over ``x`` from the histories of several seeds; rows without it are left out."""
    values: dict[Any, list[float]] = {}
    for history in histories:
        for row in history:
            if row.get(metric) is not None and row.get(x) is not None:
                values.setdefault(row[x], []).append(float(row[metric]))
    return series(dict(sorted(values.items())))


def layers(rows: Iterable[Row], *, prefix: str = "angle/") -> Series:
    """A number per layer, over the seeds in ``rows``, from the columns whose names begin with ``prefix``."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(prefix) and value not in (None, ""):
                values.setdefault(name.removeprefix(prefix), []).append(float(value))
    return series(values)


def group(rows: Iterable[Row], metric: str, *, by: Sequence[str] = BY) -> list[Group]:
    """Rows gathered over seeds: one group per distinct ``by`` and settings, in order of first appearance.

    Runs whose specs differ in anything but seed and preset never share a group. A hash counts once, its last row
    winning. Rows without the metric are left out; a NaN makes its group's mean NaN.
    """
    kept = {row.get("hash") or i: row for i, row in enumerate(rows) if row.get(metric) not in (None, "")}
    found: dict[tuple[str, ...], dict[tuple[tuple[str, str], ...], list[Row]]] = {}
    for row in kept.values():
        key = tuple(str(row.get(name, "")) for name in by)
        found.setdefault(key, {}).setdefault(_settings(row, by), []).append(row)
    everywhere = [settings for variants in found.values() for settings in variants]
    return [
        Group(
            key,
            tuple(float(row[metric]) for row in members),
            _distinct(members, "preset"),
            _distinct(members, "hash"),
            _distinct(members, "device"),
            _told_apart(settings, everywhere),
        )
        for key, variants in found.items()
        for settings, members in variants.items()
    ]


def outcome_table(rows: Sequence[Row], *, caption: str = OUTCOME) -> Table:
    """One row per group of runs: test accuracy in per cent, the hidden layers' mean angle, seeds, seconds of a run.

    Where runs have no accuracy, their outcome is the test loss, or the distance of what they balanced to balance.
    """
    metric, head, factor = next(
        (one for one in OUTCOMES if rows and all(row.get(one[0]) not in (None, "") for row in rows)), OUTCOMES[0]
    )
    groups = group(rows, metric)
    more: dict[str, Sequence[Cell]] = {}
    others = (("test accuracy, %", "test_accuracy", 100), ("angle, °", "angle", 1), ("seconds", "seconds", 1))
    for name, other, times in others[metric == "test_accuracy" :]:
        found = {one.hashes: times * one.estimate.mean for one in group(rows, other)}
        if found:
            means = [found.get(one.hashes, math.nan) for one in groups]
            more[name] = [Number(m, f"{m:.1f}") if math.isfinite(m) else NOTHING for m in means]
    scaled = [dataclasses.replace(one, values=tuple(factor * v for v in one.values)) for one in groups]
    said = caption if metric == "test_accuracy" else caption.replace("Test accuracy", head.capitalize(), 1)
    return group_table(scaled, metric=head, caption=said, more=more)


def group_table(
    groups: Sequence[Group],
    *,
    by: Sequence[str] = BY,
    metric: str = "test accuracy",
    caption: str = "",
    more: Mapping[str, Sequence[Cell]] | None = None,
) -> Table:
    """One row per group: its key, mean ± half-interval, seeds, and the columns ``more``.

    What all groups share goes into the caption.
    """
    told = [i for i in range(len(by)) if i == len(by) - 1 or len({g.key[i] for g in groups}) > 1]
    found = [g.estimate for g in groups]
    places = max((decimals(e.mean, e.half) for e in found if e.n > 1), default=None)
    columns: dict[str, Sequence[Cell]] = {by[i]: [g.key[i] for g in groups] for i in told}
    if any(g.settings for g in groups):
        columns["settings"] = [g.settings for g in groups]
    columns[metric] = [plus_minus(e.mean, e.half, places=places) for e in found]
    columns["seeds"] = [Number(len(g.values)) for g in groups]
    columns.update(more or {})
    presets = [", ".join(g.presets) for g in groups]
    shared = [(by[i], groups[0].key[i]) for i in range(len(by)) if groups and i not in told]
    if len(set(presets)) > 1:
        columns["preset"] = presets
    elif presets:
        shared.append(("preset", presets[0]))
    return Table(list(columns), list(zip(*columns.values(), strict=True)), _with_shared(caption, shared))


def run_table(
    rows: Iterable[Row],
    *,
    caption: str = "Every run behind this page, its accuracy as a fraction, as in the CSV.",
    more: Sequence[str] = (),
) -> Table:
    """One line per run, by rule and seed: hash, what it was, its outcome, and where it ran.

    A column that no row has is left out, words that all rows share go into the caption; ``more`` names further
    columns of the rows, which come last.
    """
    held = sorted(rows, key=_place)
    columns: dict[str, list[Cell]] = {}
    shared: list[tuple[str, str]] = []
    for head, keys in (*RUN_COLUMNS, *((name.replace("_", " "), (name,)) for name in more)):
        values = [_first(row, keys) for row in held]
        if all(value == "" for value in values):
            continue
        if head in WORDS and len(held) > 1 and len(set(map(str, values))) == 1:
            shared.append((head, _short(str(values[0])) if head == "commit" else str(values[0])))
        else:
            columns[head] = _column(head, values)
    return Table(list(columns), list(zip(*columns.values(), strict=True)), _with_shared(caption, shared), cards=False)


def _place(row: Row) -> tuple[Any, ...]:
    seed = str(row.get("seed", ""))
    names = tuple(str(row.get(key, "")) for key in ("experiment", "data", "model", "rule"))
    return (*names, int(seed) if seed.lstrip("-").isdigit() else math.inf, str(row.get("hash", "")))


def _first(row: Row, keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), "")


def _column(head: str, values: Sequence[Any]) -> list[Cell]:
    """The cells of one column: words and hashes as they are, numbers with the same decimals throughout."""
    if head in CODES:
        return [Code(_short(str(v)) if head == "commit" else str(v)) for v in values]
    numbers = [_number(v) for v in values]
    if head in WORDS or any(n is None for n, v in zip(numbers, values, strict=True) if v != ""):
        return [str(v) for v in values]
    real = [n for n in numbers if n is not None and math.isfinite(n)]
    if all(n.is_integer() for n in real):
        return [None if n is None else Number(v) for n, v in zip(numbers, values, strict=True)]
    places = max(0, 3 - math.floor(math.log10(max(map(abs, real)))))
    return [
        None if n is None else Number(v, f"{n:.{places}f}".replace("-", MINUS) if math.isfinite(n) else "")
        for n, v in zip(numbers, values, strict=True)
    ]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _short(commit: str) -> str:
    return commit[:SHORT_COMMIT] + ("-dirty" if commit.endswith("-dirty") else "")


def _with_shared(caption: str, shared: Sequence[tuple[str, str]]) -> str:
    """The caption, and after it what is the same in every row."""
    told = ", ".join(f"{name} `{value}`" for name, value in shared if value)
    return " ".join(filter(None, (caption, f"In every row: {told}." if told else "")))


def _settings(row: Row, by: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What else the spec of a row says: columns named after a field of ``Run``, or after one of its options."""
    from equipoise.train.spec import Run

    fields = {field.name for field in dataclasses.fields(Run)} - {"seed", "preset", *by}
    return tuple((name, csv_text(value)) for name, value in sorted(row.items()) if name.partition(".")[0] in fields)


def _told_apart(settings: tuple[tuple[str, str], ...], variants: Sequence[tuple[tuple[str, str], ...]]) -> str:
    """The settings that are not the same in all variants, as "lr=0.1, epochs=20"; what is measured decides nothing."""
    same = set(variants[0]).intersection(*variants)
    return ", ".join(f"{name}={value}" for name, value in settings if (name, value) not in same and name != "measures")


def _distinct(rows: Sequence[Row], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(row[key]) for row in rows if row.get(key) not in (None, "")))
