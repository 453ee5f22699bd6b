"""Showing how a sweep goes: one bar over its runs on a terminal, one line per run elsewhere, or nothing."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TextIO

from equipoise.train.progress import describe
from equipoise.train.summary import Summary

__all__ = ["Bar", "Lines", "Quiet", "SweepProgress", "auto", "duration"]


class SweepProgress(Protocol):
    """What ``execute`` tells; every method returns at once."""

    def start(self, total: int, finished: int) -> None:
        """A sweep of ``total`` different runs begins, ``finished`` of which need nothing."""
        ...

    def done(self, summary: Summary, count: int, left: float) -> None:
        """One more run has ended, ``count`` in all; ``left`` estimates the seconds until the last."""
        ...

    def finish(self) -> None:
        """The sweep is over, one way or the other."""
        ...


class Quiet:
    """Show nothing."""

    def start(self, total: int, finished: int) -> None: ...

    def done(self, summary: Summary, count: int, left: float) -> None: ...

    def finish(self) -> None: ...


class Lines:
    """One plain line per run that ended, with an estimate of the time left."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._total = 0

    def start(self, total: int, finished: int) -> None:
        self._total = total
        self._write(f"{total} runs" + (f", {finished} of them finished already" if finished else ""))

    def done(self, summary: Summary, count: int, left: float) -> None:
        rest = f", about {duration(left)} left" if count < self._total else ""
        self._write(f"{count}/{self._total} {outcome(summary)}{rest}")

    def finish(self) -> None: ...

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Bar:
    """A live bar over the runs, with the last outcome and the time left (rich); failures stay on screen."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("runs"),
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def start(self, total: int, finished: int) -> None:
        self._task = self._bar.add_task("runs", total=total, completed=finished, words="")
        self._bar.start()

    def done(self, summary: Summary, count: int, left: float) -> None:
        if summary.status != "finished":
            self._bar.console.print(outcome(summary), markup=False, highlight=False)
        words = f"about {duration(left)} left  {describe(summary.metrics)}"
        self._bar.update(self._task, completed=count, words=words)

    def finish(self) -> None:
        self._bar.stop()


def auto(stream: TextIO | None = None) -> SweepProgress:
    """A bar when ``stream`` (standard error) is a terminal, else plain lines."""
    target: TextIO = stream if stream is not None else sys.stderr
    return Bar() if target.isatty() else Lines(target)


def outcome(summary: Summary) -> str:
    """One run's end in one line."""
    words = f" after {summary.seconds:.1f} s" if summary.seconds else ""
    detail = summary.message or describe(summary.metrics)
    return f"{summary.hash} {summary.status}{words}{': ' + detail if detail else ''}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
