"""Running many specs: every different run once, finished ones not at all, failures recorded and passed by."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from equipoise.errors import EquipoiseError, InputError, LostRank, StorageError
from equipoise.registry import Registry
from equipoise.sweep import turns
from equipoise.sweep.progress import Quiet, SweepProgress, Within
from equipoise.sweep.status import plan
from equipoise.train import Machine, Progress, Run, Summary, diverged_before, finished, train
from equipoise.train.progress import said
from equipoise.train.ranks import Ranks
from equipoise.train.stop import Stopper

__all__ = ["Executor", "cores", "execute", "executors", "failed", "local"]


class Executor(Protocol):
    """A way to run specs: yields a summary for each run that it started, in the order in which they end.

    A run that fails is yielded with the status "failed". What an interruption keeps from starting is not yielded.
    Keywords that it may have, by these names: ``progress`` (of the run under way), ``sweep`` (the ``SweepProgress``),
    ``options`` (what the user wrote for this executor) and ``limit`` (the number of workers, None if it was not given).
    """

    def __call__(self, runs: Sequence[Run], machine: Machine, workers: int) -> Iterator[Summary]: ...


executors: Registry[Executor] = Registry("executor")
_ONE_PROCESS = ("local", "population")


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def failed(run: Run, reason: object) -> Summary:
    """The summary of a run that did not get far enough to write one."""
    return Summary(status="failed", hash=run.hash, message=" ".join(str(reason).split()))


def execute(
    runs: Sequence[Run],
    machine: Machine | None = None,
    *,
    executor: str = "local",
    workers: int | None = None,
    progress: SweepProgress | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Summary]:
    """Train every run under ``machine.runs`` and return one summary per run, in the order given.

    Runs with the same hash are trained once; those that have finished, or diverged, are not trained again (unless
    ``machine.force``). ``workers`` is the number of processes (all cores if None). The machine's time limit is the
    whole sweep's. After Ctrl-C, SIGTERM or the time limit the runs under way are saved and the others come back as
    "stopped" with that ``cause``. A run that another process is training is waited for. Raises ``InputError`` for
    an unknown executor, for ``options`` that it does not know and for fewer than one worker.
    """
    machine = machine if machine is not None else Machine()
    ranks = Ranks.here(machine.device)
    progress = progress if progress is not None and ranks.rank == 0 else Quiet()
    chosen: Any = executors[executor]
    if ranks.several and chosen is not local:
        raise InputError(f"under torchrun runs go one after the other, each on all ranks; leave out '{executor}'")
    wanted = inspect.signature(chosen).parameters
    if options and "options" not in wanted:
        raise InputError(f"the executor '{executor}' has no options, and {', '.join(options)} was given; leave it out")
    given = {"progress": Within(progress), "sweep": progress, "options": options, "limit": workers}
    chosen = functools.partial(chosen, **{name: value for name, value in given.items() if name in wanted})
    if workers is not None and workers < 1:
        raise InputError(f"'workers' is {workers}; it must be at least 1")
    results: dict[str, Summary] = {}
    waiting: dict[str, Run] = {}
    for name, run in {run.hash: run for run in runs}.items():
        summary = ranks.first(lambda run=run: _known(run, machine))
        if summary is None:
            waiting[name] = run
        else:
            results[name] = summary

    def start(runs: Sequence[Run], machine: Machine) -> Iterator[Summary]:
        return chosen(runs, machine, workers or cores())

    outcomes = start if ranks.several else functools.partial(turns.shared, start)
    if ranks.rank == 0 and waiting:
        with contextlib.suppress(StorageError):
            plan(machine.runs, runs)
    total, before = len(results) + len(waiting), len(results)
    began = time.monotonic()
    progress.start(total, sum(summary.status == "finished" for summary in results.values()))
    if lost := sum(summary.diverged for summary in results.values()):
        progress.note(f"{lost} of {total} diverged before, and would again; --force trains them anew")
    if workers is not None and executor in _ONE_PROCESS:
        progress.note(f"the executor '{executor}' is one process and takes no --workers; '--executor processes' does")
    try:
        for summary in outcomes(list(waiting.values()), machine):
            results[summary.hash] = summary
            rate = (time.monotonic() - began) / (len(results) - before)
            progress.done(said(waiting[summary.hash], summary), len(results), rate * (total - len(results)))
    finally:
        progress.finish()
    cause = next((summary.cause for summary in results.values() if summary.cause), "time limit")
    for name in waiting:
        if name not in results:
            results[name] = Summary(status="stopped", hash=name, cause=cause, message="not started")
    return [results[run.hash] for run in runs]


def _known(run: Run, machine: Machine) -> Summary | None:
    """What needs no training: the summary of a run that finished or diverged, or whose folder cannot be trusted."""
    if machine.force:
        return None
    try:
        return finished(run, machine.runs) or diverged_before(run, machine.runs)
    except StorageError as error:
        return failed(run, error)


@executors.register("local")
def local(
    runs: Sequence[Run],
    machine: Machine,
    workers: int,
    *,
    progress: Progress | None = None,
    stopper: Stopper | None = None,
) -> Iterator[Summary]:
    """One run after the other in this process, with all of torch's threads; the number of workers is not used.

    Under torchrun each of them is every rank's. ``stopper`` listens in the place of each run's own.
    """
    ranks = Ranks.here(machine.device)
    end = None if machine.time_limit is None else time.monotonic() + machine.time_limit
    for run in runs:
        left = ranks.first(lambda: None if end is None else end - time.monotonic())
        if left is not None and left <= 0:
            return
        try:
            summary = train(run, dataclasses.replace(machine, time_limit=left), progress=progress, stopper=stopper)
        except LostRank:
            raise
        except EquipoiseError as error:
            summary = failed(run, error)
        except Exception as error:  # a user's model may raise anything; the other runs go on
            summary = failed(run, f"{type(error).__name__}: {error}")
        yield summary
        if summary.cause in ("SIGINT", "SIGTERM"):
            return
