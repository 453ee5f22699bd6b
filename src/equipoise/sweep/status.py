"""How a folder of runs stands: what is finished, under way, stopped, killed, failed or waiting, and the time left."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import EquipoiseError, StorageError
from equipoise.sweep.progress import duration
from equipoise.train import Run, Summary, lock, storage

__all__ = ["STATES", "Count", "State", "forget", "fulfilled", "plan", "survey"]

STATES = ("finished", "running", "stopped", "killed", "failed", "diverged", "damaged", "waiting")
_PLANS = ".sweeps"


@dataclass(frozen=True)
class State:
    """One run: its ``state``, how far it is, who is training it, and what its summary says.

    "killed": no process has it, and the last one left without a word; its lock is stale, which stops nobody.
    "waiting": a sweep has planned it and nothing has begun it.
    """

    hash: str
    experiment: str
    state: str
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    words: str = ""
    holder: str = ""
    folder: str = ""
    message: str = ""


@dataclass(frozen=True)
class Count:
    """Runs by state, and the seconds that the rest takes at the present number of processes (None: unknown)."""

    states: Mapping[str, int]
    left: float | None

    @classmethod
    def of(cls, states: Sequence[State]) -> Count:
        """The count of ``states``."""
        return cls(Counter(one.state for one in states), _left(states))

    @property
    def total(self) -> int:
        """All runs."""
        return sum(self.states.values())

    def __str__(self) -> str:
        done = self.states.get("finished", 0)
        others = [f"{self.states[name]:,} {name}" for name in STATES[1:-1] if self.states.get(name)]
        words = [f"{self.total:,} {'run' if self.total == 1 else 'runs'}", f"{done:,} done", *others]
        if self.left:
            running = "left" if self.states.get("running") else "of work left, nothing is running"
            words.append(f"about {duration(self.left)} {running}")
        return ", ".join(words)


def plan(root: str | Path, runs: Sequence[Run], *, until: Sequence[Run] = ()) -> None:
    """Write down which runs a sweep is made of, so that ``survey`` knows of those that nothing has begun.

    With ``until`` it is known only how many they will be: they count until all of these have ended.
    """
    names = {run.hash: run.experiment for run in runs}
    path = _plan_file(root, runs, until)
    if len(names) > 1 and not path.exists():
        storage.make_folder(path.parent)
        storage.write_bytes(path, json.dumps({"runs": names, "until": sorted(run.hash for run in until)}).encode())


def _plan_file(root: str | Path, runs: Sequence[Run], until: Sequence[Run]) -> Path:
    words = [*sorted({run.hash for run in runs}), *sorted(run.hash for run in until)]
    return Path(root) / _PLANS / f"{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}.json"


def fulfilled(root: str | Path, runs: Sequence[Run], *, until: Sequence[Run]) -> None:
    """Remove what ``plan`` wrote down with these arguments: it is known now which runs they are."""
    _plan_file(root, runs, until).unlink(missing_ok=True)


def forget(root: str | Path) -> int:
    """Remove what sweeps have written down under ``root`` (``plan``), and no run; how many sweeps that were."""
    plans = list((Path(root) / _PLANS).glob("*.json"))
    for path in plans:
        path.unlink(missing_ok=True)
    return len(plans)


def survey(root: str | Path, runs: Iterable[Run] | None = None) -> list[State]:
    """The state of every run under ``root``, or of ``runs``; each hash once, by experiment.

    Nothing is taken or changed by looking. A run that lies there twice counts as its furthest copy.
    """
    root = Path(root)
    found: dict[str, State] = {}
    for one in _states(root):
        before = found.get(one.hash)
        if before is None or STATES.index(one.state) < STATES.index(before.state):
            found[one.hash] = one
    if runs is None:
        known = dict(_planned(root, {one.hash for one in found.values() if one.state in ("finished", "diverged")}))
    else:
        known = {run.hash: run.experiment for run in runs}
        found = {name: one for name, one in found.items() if name in known}
    for name, experiment in known.items():
        found.setdefault(name, State(name, experiment, "waiting"))
    return sorted(found.values(), key=lambda one: (one.experiment, STATES.index(one.state), one.hash))


def _planned(root: Path, ended: set[str]) -> Iterator[tuple[str, str]]:
    for path in sorted((root / _PLANS).glob("*.json")):
        with contextlib.suppress(StorageError):
            written = storage.read_json(path)
            runs, until = written.get("runs"), written.get("until")
            if isinstance(runs, dict) and not (until and ended.issuperset(until)):
                yield from ((str(name), str(experiment)) for name, experiment in runs.items())


def _states(root: Path) -> Iterator[State]:
    for path in sorted(root.rglob("spec.json")):
        folder = path.parent
        experiment = folder.parent.relative_to(root).as_posix() if folder != root else ""
        try:
            run = Run.from_json(storage.read_text(path))
        except EquipoiseError as error:
            yield State(folder.name, experiment, "damaged", folder=str(folder), message=str(error))
            continue
        if run.hash == folder.name:
            yield _state(folder, run)
        else:
            message = f"the spec in '{folder}' has the hash {run.hash}: it was edited"
            yield State(folder.name, run.experiment, "damaged", folder=str(folder), message=message)


def _state(folder: Path, run: Run) -> State:
    given: dict[str, Any] = {"epochs": run.epochs, "folder": str(folder), "words": f"{run.rule}, seed {run.seed}"}
    summary = None
    if (folder / "summary.json").exists():
        try:
            summary = Summary.read(folder)
        except StorageError as error:
            return State(run.hash, run.experiment, "damaged", message=str(error), **given)
    if summary is not None:
        given |= {"epoch": summary.epoch, "seconds": summary.seconds, "message": summary.message}
        if summary.status == "finished":
            return State(run.hash, run.experiment, "finished", **given)
    holder = lock.holder(folder)
    if holder is not None:
        given |= {"holder": str(holder), **_progress(folder)}
        return State(run.hash, run.experiment, "running" if holder.alive else "killed", **given)
    if summary is None:
        begun = (folder / "metrics.jsonl").exists()
        return State(run.hash, run.experiment, "killed" if begun else "waiting", **given, **_progress(folder))
    return State(run.hash, run.experiment, "diverged" if summary.diverged else summary.status, **given)


def _progress(folder: Path) -> dict[str, Any]:
    """Epochs and seconds of a run under way, by the last whole line of its metrics."""
    with contextlib.suppress(OSError):
        for line in reversed((folder / "metrics.jsonl").read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)
                return {"epoch": int(row["epoch"]), "seconds": float(row.get("seconds") or 0.0)}
    return {}


def _left(states: Sequence[State]) -> float | None:
    """Seconds until the last run ends, with as many processes as now; a run takes what its experiment's others took.

    The members of a population have one process, and each its share of that one's time.
    """
    took: dict[str, list[float]] = {}
    for one in states:
        share = one.epoch / one.epochs if one.epochs else 0.0
        if one.seconds and (one.state == "finished" or (one.state == "running" and share > 0)):
            took.setdefault(one.experiment, []).append(one.seconds / (1.0 if one.state == "finished" else share))
    if not took:
        return None
    means = {name: sum(values) / len(values) for name, values in took.items()}
    mean = sum(map(sum, took.values())) / sum(map(len, took.values()))
    rest = [one for one in states if one.state in ("running", "stopped", "killed", "waiting")]
    work = sum(max(0.0, means.get(one.experiment, mean) - one.seconds) for one in rest)
    return work / max(1, len({one.holder for one in states if one.state == "running"}))
