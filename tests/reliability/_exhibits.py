"""Made-up runs of the PEPITA experiments, and what their exhibits show of them, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from equipoise import models, sweep
from equipoise.papers import load_all
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Note, Number, Table
from equipoise.papers.pepita.figures import EXHIBITS
from equipoise.papers.pepita.table1 import Scale, cell
from equipoise.train import experiments, storage

load_all()
MINUS = "\N{MINUS SIGN}"
Rows = list[dict[str, Any]]
Histories = dict[str, list[dict[str, Any]]]


def row(column: str, rule: str, seed: int = 0, *, accuracy: float = 0.5, preset: str = "paper", **changes: Any) -> dict:
    """A finished run of a cell of Table 1, with ``changes`` of its spec; an ``angle`` is measured."""
    measured = {"angle": changes.pop("angle")} if "angle" in changes else {}
    run = cell(column, rule, seed, Scale(epochs=3), **changes)
    conditions = {"hash": run.hash, "preset": preset, "seconds": 10.0 + seed, "test_accuracy": accuracy}
    return {**sweep.flat(run), **conditions, **measured}


def history(**series: Sequence[float]) -> list[dict[str, Any]]:
    """Epochs from one list per metric; two underscores stand for a slash."""
    names = {name: name.replace("__", "/") for name in series}
    count = len(next(iter(series.values())))
    return [{"epoch": k + 1} | {new: series[old][k] for old, new in names.items()} for k in range(count)]


def show(
    name: str, rows: Rows, histories: Mapping[str, Any] | None = None, folder: Path = Path("none")
) -> list[Exhibit]:
    """What an experiment shows of these runs; each must be one that it says it shows."""
    assert all(experiments[name].shows(one) for one in rows)
    make = experiments[name].exhibits
    assert make is EXHIBITS[name]
    return make(rows, histories or {}, folder)


def figures(found: Sequence[Exhibit]) -> dict[str, Any]:
    """The axes of each figure by the figure's name."""
    return {one.name: one.figure.axes for one in found if isinstance(one, Figure)}


def tables(found: Sequence[Exhibit]) -> list[Table]:
    return [one for one in found if isinstance(one, Table)]


def lines(ax: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The labelled lines of an axes as (x, y)."""
    return {
        str(line.get_label()): (list(line.get_xdata()), [float(v) for v in line.get_ydata()])
        for line in ax.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def shown(part: Cell) -> list[str]:
    """The parts of a cell as the page has them."""
    parts = part if isinstance(part, tuple) else (part,)
    return [
        p.text or f"{p.value:g}" if isinstance(p, Number) else p.text if isinstance(p, Note) else str(p) for p in parts
    ]


def keep(one: Mapping[str, Any], folder: Path, **tensors: torch.Tensor) -> None:
    """Write weights for a run, its own start with ``tensors`` in place of those named (two underscores for a dot)."""
    held = models.make(str(one["model"]), seed=int(one["seed"])).state_dict()
    path = folder / str(one["experiment"]) / str(one["hash"])
    path.mkdir(parents=True)
    storage.write_weights(path / "weights.safetensors", held | {k.replace("__", "."): v for k, v in tensors.items()})
