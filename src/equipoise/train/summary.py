"""The outcome of a run, which is its ``summary.json``."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.errors import StorageError
from equipoise.train import checks, storage

__all__ = ["Summary", "commit"]

STATUSES = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Summary:
    """How a run ended, what it measured last, and under which conditions.

    ``metrics`` are those of the last whole epoch, ``selected`` those of the epoch whose weights are saved
    (``selected_epoch``; both empty until the run has finished). ``cause`` says why a run stopped: "SIGINT",
    "SIGTERM" or "time limit". ``note`` is what the data set wants said beside every number. ``threads`` are
    torch's; bits differ between thread counts.
    """

    status: str
    hash: str
    epoch: int = 0
    steps: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    selected_epoch: int = 0
    selected: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    parameters: int = 0
    device: str = ""
    threads: int = 0
    torch: str = ""
    equipoise: str = ""
    commit: str = ""
    note: str = ""
    cause: str = ""
    message: str = ""

    @property
    def diverged(self) -> bool:
        """Whether the run ended because its loss or its weights were not finite: a result like any other."""
        return self.status == "failed" and "not finite" in self.message

    @property
    def held_out(self) -> float:
        """Accuracy on the held-out images after the last epoch, by which settings are chosen; 0 unless it finished.

        A run that diverged has the metrics of the epochs before.
        """
        return float(self.metrics.get("validation_accuracy") or 0.0) if self.status == "finished" else 0.0

    def write(self, folder: Path) -> None:
        """Write ``summary.json`` into ``folder``, atomically."""
        storage.write_json(folder / "summary.json", dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Summary:
        """The summary in ``folder``; a ``StorageError`` when it is missing, truncated or nonsense."""
        path = folder / "summary.json"
        table = storage.read_json(path)
        try:
            return cls.from_dict(table)
        except (TypeError, ValueError) as error:
            raise StorageError(f"'{path}' is damaged or was edited: {error}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Summary:
        """The summary that a table describes; ``InputError`` for keys or values that do not fit."""
        checks.known_keys(table, [item.name for item in dataclasses.fields(cls)], kind="field of a summary")
        summary = cls(**table)
        if summary.status not in STATUSES:
            raise ValueError(f"the status is {summary.status!r}; expected one of {', '.join(STATUSES)}")
        checks.check_fields(summary)
        for name in ("metrics", "selected"):
            checks.only_numbers(getattr(summary, name), what=f"'{name}'")
        return summary


@functools.cache
def commit() -> str:
    """The git commit of the tree that equipoise is imported from ("-dirty": edited); "" if there is none."""
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    if package.parent.name != "src" or not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
