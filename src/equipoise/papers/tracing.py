"""What runs traced step by step, as curves over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.papers.exhibits import Row
from equipoise.papers.picking import series
from equipoise.plots import Series
from equipoise.train import storage

__all__ = ["Traces", "traced", "traces"]

Traces = Mapping[str, Sequence[Row]]


def traces(rows: Iterable[Row], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each run traced, by its hash; runs without a trace are left out."""
    found = {}
    for row in rows:
        path = folder / str(row["experiment"]) / str(row["hash"]) / "trace.jsonl"
        if path.is_file():
            found[str(row["hash"])] = storage.read_lines(path)
    return found


def traced(rows: Iterable[Row], followed: Traces, metric: str, *, x: str = "step") -> Series:
    """The metric along ``x`` over the seeds in ``rows``: mean and standard deviation; gaps are left out."""
    values: dict[Any, list[float]] = {}
    for row in rows:
        for point in followed.get(str(row["hash"]), ()):
            if point.get(metric) is not None:
                values.setdefault(point[x], []).append(float(point[metric]))
    return series(dict(sorted(values.items())))
