"""Showing how a run goes: a live bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from equipoise.train.spec import Run
from equipoise.train.summary import Summary

__all__ = ["Bar", "Lines", "Progress", "Quiet", "auto", "describe", "others", "said", "tested"]


class Progress(Protocol):
    """What the loop tells; every method returns at once."""

    def start(self, run: Run, steps: int, *, members: int = 1) -> None:
        """A run of ``steps`` steps begins; or ``members`` of them as one, of which ``run`` is the first."""
        ...

    def advance(self, step: int, loss: float) -> None:
        """``step`` steps are done; ``loss`` is the epoch's running mean. Called a few times a second."""
        ...

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """An epoch is measured."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know, in one line."""
        ...

    def finish(self, summary: Summary) -> None:
        """The run is over, one way or the other."""
        ...


class Quiet:
    """Show nothing."""

    def start(self, run: Run, steps: int, *, members: int = 1) -> None: ...

    def advance(self, step: int, loss: float) -> None: ...

    def epoch(self, metrics: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self, summary: Summary) -> None: ...


def describe(metrics: Mapping[str, Any]) -> str:
    """An epoch's metrics in a few words, accuracies in percent.

    >>> describe({"train_loss": 0.5, "validation_accuracy": 0.9, "test_accuracy": 0.875, "angle": 61.25})
    'loss 0.5000  validation 90.0%  test 87.5%  angle 61.2°'
    """
    words = []
    if metrics.get("train_loss") is not None:
        words.append(f"loss {metrics['train_loss']:.4f}")
    for name in ("train", "validation", "test"):
        accuracy = metrics.get(f"{name}_accuracy")
        if accuracy is not None:
            words.append(f"{name} {accuracy:.1%}")
    angle = metrics.get("angle")
    if angle is not None and math.isfinite(angle):
        words.append(f"angle {angle:.1f}°")
    return "  ".join(words)


def tested(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``metrics`` without those of the test set where the run is given a single test image, which says nothing."""
    return {name: value for name, value in metrics.items() if run.test_limit != 1 or not name.startswith("test_")}


def said(run: Run, summary: Summary) -> Summary:
    """``summary`` with what its metrics say (``tested``)."""
    return dataclasses.replace(summary, metrics=tested(run, summary.metrics))


class Lines:
    """One plain line per epoch, at most one every ``every`` seconds, and always the last."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 2.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._every = every
        self._last = 0.0
        self._run = Run()

    def start(self, run: Run, steps: int, *, members: int = 1) -> None:
        self._run = run
        name = f"{run.experiment}/{run.hash}: {run.rule} on {run.data}, seed {run.seed}{others(members)}"
        self._write(f"{name}, {run.epochs} epochs, {steps} steps")

    def advance(self, step: int, loss: float) -> None: ...

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        now, last = time.monotonic(), self._run.epochs
        if now - self._last >= self._every or metrics["epoch"] == last:
            self._last = now
            words = describe(tested(self._run, metrics))
            self._write(f"epoch {metrics['epoch']}/{last}  {words}  {metrics['seconds']:.1f} s")

    def note(self, text: str) -> None:
        self._write(f"note: {text}")

    def finish(self, summary: Summary) -> None:
        self._write(f"{summary.status} after {summary.seconds:.1f} s{_colon(summary.message)}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Bar:
    """A live bar with the loss, the last epoch's accuracies and the time left (rich)."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        # Where room is short the words lose their end; the share and the time never do.
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            progress.BarColumn(bar_width=16),
            progress.TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
            progress.TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
            progress.TextColumn(
                "{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
            console=Console(stderr=True),
            expand=True,
            transient=True,
        )
        self._task: Any = None
        self._run = Run()

    def start(self, run: Run, steps: int, *, members: int = 1) -> None:
        self._run = run
        name = f"{run.rule} on {run.data}, seed {run.seed}{others(members)}"
        self._task = self._bar.add_task(name, total=steps, words="")
        self._bar.start()

    def advance(self, step: int, loss: float) -> None:
        self._bar.update(self._task, completed=step, loss=loss)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self._bar.update(self._task, completed=metrics["step"], words=describe(tested(self._run, metrics)))

    def note(self, text: str) -> None:
        self._bar.console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)

    def finish(self, summary: Summary) -> None:
        self._bar.stop()
        words = describe(tested(self._run, summary.metrics))
        line = f"{summary.status} after {summary.seconds:.1f} s{_colon(words)}{_colon(summary.message)}"
        # Not wrapped: a command in it has to survive being copied.
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def others(members: int) -> str:
    """What stands behind the name of a population's first member."""
    return f" and {members - 1} more" if members > 1 else ""


def auto(stream: TextIO | None = None) -> Progress:
    """A bar when ``stream`` (standard error) is a terminal, else plain lines."""
    target: TextIO = stream if stream is not None else sys.stderr
    return Bar() if target.isatty() else Lines(target)


def _colon(text: str) -> str:
    return f": {text}" if text else ""
