"""Reading what runs of spiking networks measured: by layer, by epoch, and what happened to runs that diverged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.papers.eisnn.conditions import CONDITIONS, condition_of
from equipoise.papers.eisnn.networks import NETWORKS
from equipoise.papers.exhibits import Cell, Number, Row
from equipoise.papers.picking import fixed, mean_and_sd, named, series, values_of, with_diverged
from equipoise.plots import Series

__all__ = [
    "ORDER",
    "by_condition",
    "by_layer",
    "histogram_of",
    "label_of",
    "layers",
    "network_of",
    "percent",
    "scored",
    "settings",
    "slug",
    "small",
    "together",
    "value",
]

ORDER = tuple(one.label for one in CONDITIONS.values())


def network_of(row: Row) -> str:
    """What figures call the network of a run, its width and steps included where they are not the network's own."""
    kind, *words = str(row.get("model")).split(",")
    given = {name: text for name, _, text in (word.partition("=") for word in words)}
    data, home = _uncut(str(row.get("data"))), str(row.get("experiment"))
    for one in NETWORKS.values():
        base, *own = one.model.split(",")
        if base == kind and _uncut(one.data) == data and all(word in words for word in own):
            label, steps = one.label, str(one.steps)
            break
    else:
        short = {"spiking-mlp": "MLP", "spiking-vgg": "VGG", "spiking-resnet": "ResNet"}.get(
            kind.partition(":")[0], kind
        )
        label, steps = "-".join([short, *([given["depth"]] if "depth" in given else [])]), "4"
    more = [f"width {given['width']}"] if "width" in given and home != "eisnn/init" else []
    more += [f"T = {given['steps']}"] if given.get("steps", steps) != steps else []
    return ", ".join([label, *more])


def _uncut(data: str) -> str:
    """The name of data without the number of frames that events are cut into."""
    return ",".join(word for word in data.split(",") if not word.startswith("frames="))


def label_of(row: Row) -> str:
    """What the condition of a run is called."""
    name = condition_of(row)
    return CONDITIONS[name].label if name else str(row.get("rule"))


def slug(text: str) -> str:
    """A name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def settings(rows: Sequence[Row], folder: Path) -> dict[str, list[Row]]:
    """Runs by network, diverged ones too."""
    found: dict[str, list[Row]] = {}
    for row in with_diverged(rows, folder):
        found.setdefault(network_of(row), []).append(row)
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def by_condition(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Runs that differ in their seed alone, by the condition's label."""
    return named(rows, label_of, order=ORDER)


def _natural(text: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def layers(row: Row, kind: str) -> list[str]:
    """The names of the layers of which ``kind``/<layer> was measured, from input to output."""
    found = [key.partition("/")[2] for key, v in row.items() if key.startswith(f"{kind}/") and v is not None]
    return sorted(found, key=_natural)


def value(row: Row, key: str) -> float:
    """A measured number; NaN where there is none."""
    found = row.get(key)
    return math.nan if found is None else float(found)


def by_layer(rows: Sequence[Row], kind: str) -> Series | None:
    """``kind`` of each layer, numbered from the input, over the seeds in ``rows``; None where nothing was measured."""
    names = next((found for row in rows if (found := layers(row, kind))), [])
    values = {k: [value(row, f"{kind}/{name}") for row in rows] for k, name in enumerate(names, 1)}
    return series(values) if values else None


def scored(rows: Sequence[Row]) -> Cell:
    """Test accuracy in per cent; how many runs diverged, where any did."""
    values = [100 * v for v in values_of(rows, "test_accuracy")]
    lost = len(rows) - len(values)
    if not values:
        return "diverged"
    shown = mean_and_sd(values)
    return (*shown, f"({lost} diverged)") if lost else shown


def percent(rows: Sequence[Row], metric: str, places: int = 2) -> Cell:
    """A share over seeds, in per cent."""
    values = [100 * v for v in values_of(rows, metric)]
    return mean_and_sd(values, places=places) if values else None


def small(values: Sequence[float], places: int = 2) -> Cell:
    """The least and the largest of some numbers; NaN are left out."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    return (Number(low, fixed(low, places)), "to", Number(high, fixed(high, places)))


def together(rows: Sequence[Row], kind: str) -> list[float]:
    """``kind`` of every layer of every run."""
    return [value(row, f"{kind}/{name}") for row in rows for name in layers(row, kind)]


def histogram_of(row: Mapping[str, object], kind: str, layer: str) -> list[float]:
    """The shares in the bins of one histogram, in order."""
    keys = sorted((key for key in row if key.startswith(f"{kind}_bin/{layer}/")), key=_natural)
    return [float(str(row[key])) for key in keys if row[key] is not None]
