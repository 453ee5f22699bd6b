"""Showing how a sweep goes: one bar over its runs on a terminal, one line per run elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from equipoise.train import Run
from equipoise.train.progress import Quiet as QuietRun
from equipoise.train.progress import describe, others, tested
from equipoise.train.summary import Summary

__all__ = ["Bar", "Lines", "Quiet", "SweepProgress", "Within", "auto", "duration"]


_EVERY = 60.0


class SweepProgress(Protocol):
    """What ``execute`` tells; every method returns at once."""

    def start(self, total: int, finished: int) -> None:
        """A sweep of ``total`` different runs begins, ``finished`` of which need nothing."""
        ...

    def done(self, summary: Summary, count: int, left: float) -> None:
        """One more run has ended, ``count`` in all; ``left`` estimates the seconds until the last."""
        ...

    def within(self, words: str) -> None:
        """How far the run under way is."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know, in one line."""
        ...

    def finish(self) -> None:
        """The sweep is over, one way or the other."""
        ...


class Quiet:
    """Show nothing."""

    def start(self, total: int, finished: int) -> None: ...

    def done(self, summary: Summary, count: int, left: float) -> None: ...

    def within(self, words: str) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...


class Within(QuietRun):
    """What a run tells its sweep on the way."""

    def __init__(self, sweep: SweepProgress) -> None:
        self._sweep = sweep
        self._name, self._run = "", Run()
        self._steps = 0
        self._from: tuple[int, float] | None = None

    def start(self, run: Run, steps: int, *, members: int = 1) -> None:
        self._name, self._run = f"{run.rule}, seed {run.seed}{others(members)}", run
        self._steps, self._from = steps, None

    def advance(self, step: int, loss: float) -> None:
        now = time.monotonic()
        first, began = self._from = self._from or (step, now)
        pace = (now - began) / (step - first) if step > first else 0.0
        rest = f", {duration(pace * (self._steps - step))} more" if pace else ""
        self._sweep.within(f"{self._name}, step {step:,}/{self._steps:,}{rest}  loss {loss:.4f}")

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        words = describe(tested(self._run, metrics))
        self._sweep.within(f"{self._name}, epoch {metrics['epoch']}/{self._run.epochs}  {words}")

    def note(self, text: str) -> None:
        self._sweep.note(f"{self._name}: {text}")


class Lines:
    """One plain line per run that ended, with an estimate of the time left; every minute one on the way."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._total = 0
        self._last = time.monotonic()

    def start(self, total: int, finished: int) -> None:
        self._total = total
        before = f", {finished} of them finished before (--force trains them anew)" if finished else ""
        self._write(f"{total} runs{before}")

    def done(self, summary: Summary, count: int, left: float) -> None:
        rest = f"  about {duration(left)} left" if count < self._total and summary.status != "stopped" else ""
        self._write(f"{count}/{self._total} {outcome(summary)}{rest}")

    def within(self, words: str) -> None:
        if time.monotonic() - self._last >= _EVERY:
            self._write(words)

    def note(self, text: str) -> None:
        self._write(f"note: {text}")

    def finish(self) -> None: ...

    def _write(self, text: str) -> None:
        self._last = time.monotonic()
        self._stream.write(text + "\n")
        self._stream.flush()


class Bar:
    """A live bar over the runs, with the last outcome and the time left (rich); failures stay on screen."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        # Where room is short the words lose their end; the count and the time never do.
        self._bar = progress.Progress(
            progress.TextColumn("runs"),
            progress.BarColumn(bar_width=16),
            progress.MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=7)),
            progress.TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            progress.TextColumn(
                "{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
            console=Console(stderr=True),
            expand=True,
        )
        self._task: Any = None
        self._left = ""

    def start(self, total: int, finished: int) -> None:
        self._task = self._bar.add_task("runs", total=total, completed=finished, words="")
        self._bar.start()
        if finished:
            self.note(f"{finished} of {total} finished before; --force trains them anew")

    def done(self, summary: Summary, count: int, left: float) -> None:
        if summary.status != "finished":
            self._print(outcome(summary))
        self._left = f"about {duration(left)} left  " if summary.status != "stopped" else ""
        self._bar.update(self._task, completed=count, words=self._left + describe(summary.metrics))

    def within(self, words: str) -> None:
        self._bar.update(self._task, words=self._left + words)

    def note(self, text: str) -> None:
        self._print(f"note: {text}")

    def finish(self) -> None:
        self._bar.stop()

    def _print(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def auto(stream: TextIO | None = None) -> SweepProgress:
    """A bar when ``stream`` (standard error) is a terminal, else plain lines."""
    target: TextIO = stream if stream is not None else sys.stderr
    return Bar() if target.isatty() else Lines(target)


def outcome(summary: Summary) -> str:
    """One run's end in one line."""
    words = f" after {summary.seconds:.1f} s" if summary.seconds else ""
    detail = summary.message or describe(summary.metrics)
    if summary.status == "stopped" and summary.steps:  # how to go on with a sweep is the sweep's to say
        detail = f"saved at step {summary.steps} ({summary.cause})"
    return f"{summary.hash} {summary.status}{words}{': ' + detail if detail else ''}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
