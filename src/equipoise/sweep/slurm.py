"""The executor that hands runs to a SLURM cluster as job arrays, and waits for them by their folders."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import StorageError
from equipoise.sweep.executors import executors, failed
from equipoise.sweep.processes import last_words
from equipoise.sweep.progress import Quiet, SweepProgress
from equipoise.sweep.slurm_job import outcome_file
from equipoise.sweep.slurm_queue import Options, Queue, Ticket, submit
from equipoise.train import Machine, Run, Summary, finished, lock, storage
from equipoise.train.progress import describe, tested
from equipoise.train.stop import Stopper

__all__ = ["slurm"]

LOOK = 1.0  # seconds between two looks into the folder of outcomes
ASK = 10.0  # seconds between two questions to the controller
_AT_ONCE = 100  # jobs in one call of scancel
_QUEUED = "its job is still in the queue"
GRACE = 60.0  # seconds that a job which has left the queue may take to show its outcome (shared folders lag)


@executors.register("slurm")
def slurm(
    runs: Sequence[Run],
    machine: Machine,
    workers: int,
    *,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    sweep: SweepProgress | None = None,
) -> Iterator[Summary]:
    """Jobs of a SLURM cluster, in arrays (through submitit): pre-empted or out of time, a job saves, waits and goes on.

    ``options`` are sbatch's own (partition, account, gres, ...) and those of ``slurm_queue.Options``; ``limit`` is the
    number of jobs at once. Runs that an earlier call has queued are waited for, not queued again. After Ctrl-C the jobs
    stay where they are; the machine's time limit cancels those that train nothing else, and they save.
    """
    chosen = Options.read(options or {})
    sweep = sweep if sweep is not None else Quiet()
    base = Path(machine.runs).resolve() / ".slurm"
    storage.make_folder(base)
    waiting = _tickets(runs, machine, base, chosen, limit, sweep)
    yield from _Watch({run.hash: run for run in runs}, waiting, machine, sweep).outcomes()


def _tickets(
    runs: Sequence[Run], machine: Machine, base: Path, chosen: Options, limit: int | None, sweep: SweepProgress
) -> dict[str, Ticket]:
    """The job of every run: the one that is in the queue already, or a new one. One driver at a time decides."""
    with _turn(base):
        queue = Queue.ask()
        assert queue is not None
        queued = queue.runs(base)
        waiting = {run.hash: queued[run.hash] for run in runs if run.hash in queued}
        if waiting:
            sweep.note(f"{len(waiting)} of {len(runs)} runs are in the queue already")
        missing = [run for run in runs if run.hash not in waiting]
        if missing:
            folder = base / uuid.uuid4().hex[:8]
            waiting |= submit(missing, machine, folder, chosen, limit)
            jobs = len({ticket.index for name, ticket in waiting.items() if ticket.folder == folder})
            sweep.note(f"{len(missing)} runs are queued in {jobs} jobs: squeue --me --name={Ticket(folder, 0).name}")
    return waiting


@contextlib.contextmanager
def _turn(base: Path, patience: float = 120.0) -> Iterator[None]:
    """Wait until no other driver is between looking at the queue and adding to it."""
    end = time.monotonic() + patience
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lock.hold(base))
                break
            except StorageError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield


@dataclass
class _Watch:
    """Waits for runs in the queue."""

    runs: dict[str, Run]
    waiting: dict[str, Ticket]
    machine: Machine
    sweep: SweepProgress

    def outcomes(self) -> Iterator[Summary]:
        """A summary for each run when it has ended; for all that are left at once after Ctrl-C."""
        stopper = Stopper(self.machine.time_limit)
        asked, left_queue, cancelled = -math.inf, {}, False
        with stopper.listening():
            while self.waiting:
                yield from self._told()
                if stopper.reason == "time limit" and not cancelled:
                    cancelled = True
                    yield from self._cancel()
                elif stopper.reason and not cancelled:
                    yield from self._leave(stopper.reason)
                    return
                if time.monotonic() - asked >= ASK or cancelled:
                    asked = time.monotonic()
                    queue = Queue.ask(patient=True)
                    if queue is not None:
                        self._say(queue)
                        yield from self._gone(queue, left_queue, "time limit" if cancelled else "")
                if self.waiting:
                    time.sleep(LOOK)

    def _told(self) -> Iterator[Summary]:
        """Runs whose jobs have said how they ended."""
        for folder in {ticket.folder for ticket in self.waiting.values()}:
            names = set(os.listdir(folder)) if folder.exists() else set()
            for name in [name for name, ticket in self.waiting.items() if ticket.folder == folder]:
                path = outcome_file(folder, name)
                if path.name in names:
                    del self.waiting[name]
                    try:
                        yield Summary.from_dict(storage.read_json(path))
                    except (StorageError, TypeError, ValueError) as error:
                        yield failed(self.runs[name], error)

    def _gone(self, queue: Queue, since: dict[str, float], cause: str) -> Iterator[Summary]:
        """Runs whose jobs are no longer in the queue, and have had time to say why."""
        for name, ticket in list(self.waiting.items()):
            if ticket in queue:
                since.pop(name, None)
            elif time.monotonic() - since.setdefault(name, time.monotonic()) >= GRACE:
                del self.waiting[name]
                yield self._last_word(self.runs[name], ticket, cause)

    def _last_word(self, run: Run, ticket: Ticket, cause: str) -> Summary:
        """How a run stands whose job has gone without a word: finished, saved, or dead."""
        try:
            done = finished(run, self.machine.runs)
        except StorageError as error:
            return failed(run, error)
        if done is not None:
            return done
        with contextlib.suppress(StorageError):
            summary = Summary.read(run.folder(self.machine.runs))
            if summary.status == "stopped":
                return summary
        if cause:
            return Summary(status="stopped", hash=run.hash, cause=cause, message="not started")
        log = ticket.log()
        said = last_words(log, 0) if log else ""
        return failed(run, f"its job has left the queue: {said or 'it said nothing'}; logs: '{ticket.folder}'")

    def _say(self, queue: Queue) -> None:
        """How many jobs run, how many wait, and how far one of them is."""
        states = [queue.state(ticket) for ticket in set(self.waiting.values())]
        running = states.count("RUNNING")
        words = f"{running} jobs running, {len(states) - running} waiting"
        for name, ticket in self.waiting.items():
            if queue.state(ticket) == "RUNNING":
                with contextlib.suppress(StorageError, IndexError, KeyError):
                    run = self.runs[name]
                    last = storage.read_lines(run.folder(self.machine.runs) / "metrics.jsonl")[-1]
                    far = describe(tested(run, last))
                    words += f"; {run.rule}, seed {run.seed}, epoch {last['epoch']}/{run.epochs}  {far}"
                    break
        self.sweep.within(words)

    def _names(self) -> str:
        return ",".join(sorted({ticket.name for ticket in self.waiting.values()}))

    def _leave(self, reason: str) -> Iterator[Summary]:
        """Let the jobs be, and say how to look at them, how to end them and how to come back."""
        self.sweep.note(
            f"the jobs of {len(self.waiting)} runs go on without this process; look: equipoise status "
            f"{self.machine.runs}, or squeue --me --name={self._names()}; end them: scancel --me --name=NAME for each; "
            "the same command waits for them again"
        )
        for name in list(self.waiting):
            yield Summary(status="stopped", hash=name, cause=reason, message=_QUEUED)

    def _cancel(self) -> Iterator[Summary]:
        """Cancel the tasks that train nothing but what is asked for here; the others are another call's, too."""
        queue = Queue.ask(patient=True)
        ours = {ticket for ticket in self.waiting.values() if queue and set(self.runs) >= set(ticket.runs() or [""])}
        jobs = [job for ticket in ours if queue and (job := queue.job(ticket))]
        for start in range(0, len(jobs), _AT_ONCE):
            command = ["scancel", *jobs[start : start + _AT_ONCE]]
            subprocess.run(command, capture_output=True, timeout=60, check=False)
        for name, ticket in list(self.waiting.items()):
            if ticket not in ours:
                del self.waiting[name]
                yield Summary(status="stopped", hash=name, cause="time limit", message=_QUEUED)
