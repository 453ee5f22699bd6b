"""Several drivers on one folder: a run that another process is training is left to it, and waited for."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from equipoise.errors import StorageError
from equipoise.train import Machine, Run, Summary, diverged_before, finished, lock
from equipoise.train.stop import Stopper

__all__ = ["done_meanwhile", "shared", "taken"]

OTHERS = "another process is training it"
_POLL = 0.25


def taken(run: Run, machine: Machine) -> bool:
    """Whether another live process is training ``run`` now."""
    holder = lock.holder(run.folder(machine.runs))
    here = (str(os.getpid()), socket.gethostname())
    return holder is not None and holder.alive and (holder.pid, holder.host) != here


def done_meanwhile(run: Run, machine: Machine) -> Summary | None:
    """The summary of ``run`` if it has finished or diverged by now; that its folder is damaged, its trainer says."""
    try:
        return finished(run, machine.runs) or diverged_before(run, machine.runs)
    except StorageError:
        return None


def shared(
    start: Callable[[Sequence[Run], Machine], Iterator[Summary]], runs: Sequence[Run], machine: Machine
) -> Iterator[Summary]:
    """The outcomes of ``start``, an executor; a run that failed because another driver has it is tried again.

    That is when the other one has let go of it. So drivers on one folder share its runs between them, each is trained
    once, and each driver comes back with the summaries of all.
    """
    end = None if machine.time_limit is None else time.monotonic() + machine.time_limit
    by_hash = {run.hash: run for run in runs}
    while runs:
        left = None if end is None else max(end - time.monotonic(), 0.001)
        later: list[Run] = []
        stopped = False
        for summary in start(runs, dataclasses.replace(machine, time_limit=left)):
            run = by_hash[summary.hash]
            if summary.status == "failed" and taken(run, machine):
                later.append(run)
            else:
                stopped = stopped or summary.status == "stopped"
                yield summary
        if stopped:
            return
        runs = yield from _waited(later, machine, Stopper(None if end is None else max(end - time.monotonic(), 0.001)))


def _waited(later: list[Run], machine: Machine, stopper: Stopper) -> Generator[Summary, None, list[Run]]:
    """Wait until one of ``later`` is free; yield those that were finished meanwhile and return what must be tried."""
    waiting = list(later)
    with stopper.listening():
        while waiting:
            for run in list(waiting):
                done = done_meanwhile(run, machine)
                if done is not None:
                    waiting.remove(run)
                    yield done
            if any(not taken(run, machine) for run in waiting):
                return waiting
            if stopper.reason:
                for run in waiting:
                    yield Summary(status="stopped", hash=run.hash, cause=stopper.reason, message=OTHERS)
                return []
            if waiting:
                time.sleep(_POLL)
    return []
