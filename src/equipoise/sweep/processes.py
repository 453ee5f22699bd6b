"""The executor that spreads runs over processes of one thread each, which is what a CPU does best."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from equipoise.errors import StorageError
from equipoise.sweep import forks, turns
from equipoise.sweep.executors import executors, failed
from equipoise.train import Machine, Run, Summary, storage
from equipoise.train.stop import Stopper

__all__ = ["COMMAND", "last_words", "processes"]

COMMAND = (sys.executable, "-m", "equipoise", "run")
_POLL = 0.01
_PATIENCE = 0.05
_SAVED = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True, eq=False)
class _Worker:
    """A live process, its run, and where its part of the log begins."""

    run: Run
    folder: Path
    process: subprocess.Popen[bytes] | forks.Forked
    offset: int


@executors.register("processes")
def processes(
    runs: Sequence[Run], machine: Machine, workers: int, *, command: Sequence[str] | None = None
) -> Iterator[Summary]:
    """Up to ``workers`` processes at a time, of one thread each (or of --threads); each runs ``command --spec FILE``.

    Without a command they are forks of one process that has imported everything, where that can be (``forks``).
    A worker writes to ``worker.log`` in its run's folder. Workers sit in sessions of their own, so that Ctrl-C
    reaches them once, from here, and all of them save. A second Ctrl-C kills them. When this process is killed,
    they save and end.
    """
    stopper = Stopper(machine.time_limit)
    end = None if machine.time_limit is None else time.monotonic() + machine.time_limit
    waiting, live, told = deque(runs), [], ""
    starter = _Starter(machine, command)
    with stopper.listening():
        try:
            while live or (waiting and not stopper.reason):
                while waiting and len(live) < workers and not stopper.reason:
                    run = waiting.popleft()
                    done = None if machine.force else turns.done_meanwhile(run, machine)
                    if done is not None or turns.taken(run, machine):  # by another driver
                        yield done or failed(run, turns.OTHERS)
                        continue
                    left = None if end is None else max(end - time.monotonic(), 0.001)
                    try:
                        live.append(starter.start(run, dataclasses.replace(machine, time_limit=left)))
                    except (StorageError, OSError) as error:
                        yield failed(run, error)
                if stopper.reason and not told:
                    told = stopper.reason
                    for worker in live:
                        worker.process.send_signal(signal.SIGINT)
                ended = [worker for worker in live if worker.process.poll() is not None]
                for worker in ended:
                    live.remove(worker)
                    yield _outcome(worker, told)
                if live and not ended:
                    starter.wait()
        finally:
            for worker in live:
                worker.process.kill()
                worker.process.wait()
            starter.close()


class _Starter:
    """Starts workers: forks of one process that has imported everything, or else ``command`` for each."""

    def __init__(self, machine: Machine, command: Sequence[str] | None) -> None:
        self._forks: forks.Forks | None = None
        self._fork = command is None and forks.possible(machine.device)
        self._command = COMMAND if command is None else tuple(command)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environment = os.environ | dict.fromkeys(names, str(machine.threads or 1))

    def start(self, run: Run, machine: Machine) -> _Worker:
        """Begin ``run``; its folder, its spec and its part of the log are there."""
        folder = run.folder(machine.runs)
        storage.make_folder(folder)
        spec, log = folder / "spec.json", folder / "worker.log"
        storage.write_bytes(spec, run.to_json().encode())
        flags = dataclasses.replace(machine, threads=machine.threads or 1).arguments()
        arguments = ["--spec", str(spec), *flags, *(["--force"] if machine.force else [])]
        with log.open("ab") as stream:
            offset = stream.tell()
            if self._fork:
                try:
                    self._forks = self._forks or forks.Forks(self._environment)
                    process = self._forks.start(arguments, log, data=run.data, folder=machine.data_dir)
                    return _Worker(run, folder, process, offset)
                except OSError:  # somebody ended it
                    self._fork = False
            return _Worker(run, folder, self._process(arguments, stream), offset)

    def _process(self, arguments: list[str], stream: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, *arguments, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait for a moment, or until a fork says something."""
        if self._forks is None or not self._forks.listen(_PATIENCE):
            time.sleep(_POLL)

    def close(self) -> None:
        """End what forks, once no worker lives."""
        if self._forks is not None:
            self._forks.close()


def _outcome(worker: _Worker, told: str) -> Summary:
    """The summary that a worker wrote, or one that says how it died; ``told`` is why it was asked to stop."""
    code = worker.process.returncode or 0
    if told or code in _SAVED:
        with contextlib.suppress(StorageError):
            summary = Summary.read(worker.folder)
            if summary.hash == worker.run.hash and summary.status != "failed":
                return dataclasses.replace(summary, cause=told or summary.cause) if summary.cause else summary
    if told and code in (-signal.SIGINT, 128 + signal.SIGINT):
        return Summary(status="stopped", hash=worker.run.hash, cause=told, message="stopped before it began")
    log = worker.folder / "worker.log"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return failed(worker.run, f"the worker was killed by {name}; run it again to go on; log: '{log}'")
    said = last_words(log, worker.offset)
    return failed(worker.run, said or f"the worker ended with exit code {code}; log: '{log}'")


def last_words(log: Path, offset: int) -> str:
    """The last error in the log, else its last line: a worker of another sweep may be writing there too."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(offset)
        lines = stream.read().decode(errors="replace").strip().splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return next(reversed(errors or lines), "").strip()
    return ""
