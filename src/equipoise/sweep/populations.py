"""The executor that trains runs of one kind together, as populations, and all others one by one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from equipoise import population
from equipoise.sweep.executors import executors, local
from equipoise.train import Machine, Progress, Run, Summary
from equipoise.train.progress import Quiet

__all__ = ["populations"]


@executors.register("population")
def populations(
    runs: Sequence[Run], machine: Machine, workers: int, *, progress: Progress | None = None
) -> Iterator[Summary]:
    """Runs of one architecture, rule, optimiser and data as one batched computation; what cannot be one, one by one.

    Up to ``population.LIMIT`` members at a time, of several widths too; the number of workers is not used. Folders and
    checkpoints are those of solo runs, so the same command resumes, as does any other executor.
    """
    progress = progress if progress is not None else Quiet()
    end = None if machine.time_limit is None else time.monotonic() + machine.time_limit
    waiting = population.buckets(runs)
    while waiting:
        bucket, left = waiting.pop(0), None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        interrupted = False
        summaries, smaller = _together(bucket, dataclasses.replace(machine, time_limit=left), progress)
        for summary in summaries:
            yield summary
            interrupted |= summary.cause in ("SIGINT", "SIGTERM")
        if interrupted:
            return
        waiting = [*smaller, *waiting]


def _together(bucket: Sequence[Run], machine: Machine, progress: Progress) -> tuple[Iterable[Summary], list[list[Run]]]:
    """The summaries of one bucket; where it is refused, or something in it fails, each run is on its own.

    Before that, runs of several widths go into one bucket a width: these come second.
    """
    if len(bucket) > 1:
        try:
            return population.train(bucket, machine, progress=progress), []
        except Exception as error:  # a user's model may raise anything; alone, each run says what is wrong with it
            smaller = population.by_width(bucket)
            line = error.line if isinstance(error, population.Refused) else ""
            if len(smaller) > 1 and line in ("", "widths", "different networks"):
                progress.note(f"{len(bucket)} runs are trained width by width, in {len(smaller)} groups: {error}")
                return [], smaller
            progress.note(f"{len(bucket)} runs are trained one by one: {error}")
    alone: Any = local
    return alone(bucket, machine, 1, progress=progress), []
