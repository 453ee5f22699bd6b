"""Reading finished runs back: one flat row per run, and their learning curves."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from equipoise.errors import EquipoiseError, StorageError
from equipoise.train import Run, Summary, checks, storage
from equipoise.train.progress import tested

__all__ = ["collect", "diverged", "flat", "histories", "unfinished"]

_CONDITIONS = (
    "hash",
    "status",
    "epoch",
    "steps",
    "selected_epoch",
    "seconds",
    "parameters",
    "device",
    "threads",
    "torch",
    "equipoise",
    "commit",
    "note",
)
# Of the selected epoch's metrics these are the run's own or in the row already.
_NOT_METRICS = ("epoch", "step", "lr", "seconds")


def collect(
    root: str | Path, *, experiment: str | None = None, problems: list[str] | None = None
) -> list[dict[str, Any]]:
    """One flat row per finished run under ``root``: spec fields, conditions, metrics of the selected epoch.

    Tables in the spec are flattened with dots (``options.scale``). Rows are sorted by experiment, then by the
    rest of the spec, so the order does not depend on the file system. A damaged folder is left out and said so:
    one line each is added to ``problems``, or logged when that is None. A run that lies there twice, as where folders
    of several machines were put together, is one row. One that was given a single test image has no test metrics.
    """
    rows = []
    for _, run, summary in _finished(Path(root), experiment, problems):
        row = flat(run)
        row |= {name: getattr(summary, name) for name in _CONDITIONS}
        row |= {name: value for name, value in tested(run, summary.selected).items() if name not in _NOT_METRICS}
        rows.append((run.experiment, run.model, run.data, run.rule, run.seed, run.hash, row))
    return [row for *_, row in sorted(rows, key=lambda entry: entry[:-1])]


def histories(
    root: str | Path, experiment: str | None = None, *, problems: list[str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every epoch of every finished run, by hash; damaged folders as in ``collect``."""
    found = {}
    for folder, run, _ in _finished(Path(root), experiment, problems):
        path = folder / "metrics.jsonl"
        try:
            rows = storage.read_lines(path)
            for number, row in enumerate(rows, start=1):
                checks.only_numbers(row, what=f"line {number} of '{path}'")
        except EquipoiseError as error:
            _report(f"left out: {error}", problems)
        else:
            found[run.hash] = [tested(run, row) for row in rows]
    return dict(sorted(found.items()))


def unfinished(root: str | Path, wanted: Callable[[Mapping[str, Any]], bool] | None = None) -> list[str]:
    """A line for every run under ``root`` that was stopped or failed: its folder, and what it said last.

    Those that diverged are results, and not among them (``diverged``). ``wanted`` chooses among all others by the
    fields of their specs, flattened as in ``collect``.
    """
    every = list(_read(Path(root), []))
    done = {run.hash for _, run, summary in every if summary.status == "finished"}
    return [
        f"'{folder}' is not finished ({summary.status}): {summary.message}"
        for folder, run, summary in every
        if run.hash not in done and not summary.diverged and (wanted is None or wanted(flat(run)))
    ]


def diverged(root: str | Path) -> list[dict[str, Any]]:
    """The flat spec of every run under ``root`` that ended because its loss or weights were not finite.

    They are results, too: a comparison that drops them favours what diverges. Their rows have conditions, no metrics.
    A run that lies there twice is one row, and none where a copy of it has finished, as ``collect`` has that one.
    """
    every = list(_read(Path(root), []))
    done = {run.hash for _, run, summary in every if summary.status == "finished"}
    lost = {run.hash: (run, summary) for _, run, summary in every if summary.diverged and run.hash not in done}
    return [
        flat(run) | {name: getattr(summary, name) for name in (*_CONDITIONS, "message")}
        for run, summary in lost.values()
    ]


def _finished(root: Path, experiment: str | None, problems: list[str] | None) -> Iterator[tuple[Path, Run, Summary]]:
    seen: set[str] = set()
    for folder, run, summary in _read(root, problems):
        if summary.status == "finished" and experiment in (None, run.experiment) and run.hash not in seen:
            seen.add(run.hash)
            yield folder, run, summary


def _read(root: Path, problems: list[str] | None) -> Iterator[tuple[Path, Run, Summary]]:
    for path in sorted(root.rglob("summary.json")):
        folder = path.parent
        try:
            summary = Summary.read(folder)
            run = Run.from_json(storage.read_text(folder / "spec.json"))
            if not run.hash == summary.hash == folder.name:
                raise StorageError(
                    f"the spec in '{folder}' has the hash {run.hash}, its summary {summary.hash}: it was edited"
                )
        except EquipoiseError as error:
            where = "" if str(folder) in str(error) else f"'{folder}': "
            _report(f"left out: {where}{error}", problems)
            continue
        yield folder, run, summary


def flat(run: Run) -> dict[str, Any]:
    """The fields of a spec as a flat row: tables in it with dots (``options.scale``)."""
    row: dict[str, Any] = {}
    for item in dataclasses.fields(run):
        _flatten(item.name, getattr(run, item.name), row)
    return row


def _flatten(name: str, value: Any, row: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, row)
    else:
        row[name] = value


def _report(line: str, problems: list[str] | None) -> None:
    if problems is None:
        logging.getLogger("equipoise").warning(line)
    else:
        problems.append(line)
