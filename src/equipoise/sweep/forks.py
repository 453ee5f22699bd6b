"""Worker processes that begin at once: one process imports everything and forks workers, each for several runs.

To import torch takes seconds, and to fork and warm up a process a tenth of one; short runs take no longer than that.
A worker that has finished a run waits for the next one; one whose run failed or was stopped ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise import data
from equipoise.user_code import load_plugins

__all__ = ["Forked", "Forks", "main", "possible"]

_TICK = 0.2
_RUNS = 100  # of one worker, so that what a run may leak does not grow for ever


def possible(device: str) -> bool:
    """Whether workers may be forked: on Linux, and for the CPU, since a driver's state does not survive a fork."""
    return sys.platform == "linux" and device == "cpu"


class Forked:
    """A run in a worker, with the few methods of ``subprocess.Popen`` that a sweep needs."""

    def __init__(self, pid: int, forks: Forks) -> None:
        self.pid, self.returncode = pid, None
        self._forks = forks

    returncode: int | None

    def poll(self) -> int | None:
        """The exit code, negative for the signal that ended it; None while it runs."""
        self._forks.listen()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send ``number`` if it still runs: until its end is told, its process is nobody else's."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        while self.poll() is None:
            self._forks.listen(1.0)


class Forks:
    """The process that forks, seen from the sweep. Its workers save and end when it is gone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "equipoise.sweep.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
        self._live: dict[int, Forked] = {}
        self._heard = b""
        self._born: list[int] = []

    def start(self, arguments: Sequence[str], log: Path, *, data: str, folder: str | None) -> Forked:
        """Begin ``equipoise run ARGUMENTS`` in a session of its own, writing to ``log``; OSError if nobody forks.

        The set ``data``, in ``folder``, is loaded before.
        """
        assert self._process.stdin is not None
        task = {"arguments": list(arguments), "log": str(log), "data": data, "folder": folder}
        self._process.stdin.write((json.dumps(task) + "\n").encode())
        while not self._born:
            if not self.listen(1.0) and self._process.poll() is not None:
                raise OSError("the process that starts workers has ended")
        worker = Forked(self._born.pop(), self)
        self._live[worker.pid] = worker
        return worker

    def listen(self, patience: float = 0.0) -> bool:
        """Take in what has been told, waiting up to ``patience`` seconds for it; whether there was anything."""
        assert self._process.stdout is not None
        heard = False
        while select.select([self._process.stdout], [], [], 0.0 if heard else patience)[0]:
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._process.wait()
                for worker in self._live.values():  # whoever forked them is gone, and so are they
                    worker.returncode = worker.returncode if worker.returncode is not None else -signal.SIGTERM
                return heard
            heard = True
            *lines, self._heard = (self._heard + piece).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return heard

    def _take(self, told: dict[str, Any]) -> None:
        if "born" in told:
            self._born.append(told["born"])
        else:
            self._live.pop(told["ended"]).returncode = told["code"]

    def close(self) -> None:
        """Let it end; workers that live are asked to save and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass(eq=False)
class _Worker:
    """A forked process as its parent sees it; ``knows`` are the data sets that were loaded before it was forked."""

    pid: int
    link: socket.socket
    knows: frozenset[tuple[str, str | None]]
    runs: int = 0
    busy: bool = False


class _Parent:
    """The process that forks. It hands each task to an idle worker, or to a new one, and tells when a run ends."""

    def __init__(self) -> None:
        self.workers: dict[int, _Worker] = {}
        self.loaded: frozenset[tuple[str, str | None]] = frozenset()
        self.heard = b""
        self.events = selectors.DefaultSelector()

    def listen(self) -> bool:
        """Take in one round of what comes, from the sweep and from workers; False once nothing more can come."""
        for key, _ in self.events.select(_TICK):
            if key.data is not None:
                self.hear(key.data)
                continue
            piece = os.read(0, 65536)
            if not piece:
                return False
            *lines, self.heard = (self.heard + piece).split(b"\n")
            for line in lines:
                self.hand_out(json.loads(line))
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.bury(ended[0], os.waitstatus_to_exitcode(ended[1]))
        return True

    def hear(self, worker: _Worker) -> None:
        """A worker has finished a run, or it has ended, which ``waitpid`` tells in a moment."""
        with contextlib.suppress(OSError):
            if worker.link.recv(1):
                worker.busy = False
                _tell(ended=worker.pid, code=0)
                return
        self.forget(worker)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)

    def forget(self, worker: _Worker) -> None:
        """Hand nothing more to ``worker``; an idle one then ends."""
        if worker.link.fileno() >= 0:
            self.events.unregister(worker.link)
            worker.link.close()

    def bury(self, pid: int, code: int) -> None:
        """A process has ended; its run, if it had one, too."""
        worker = self.workers.pop(pid, None)
        if worker is not None:
            self.forget(worker)
            if worker.busy:
                _tell(ended=pid, code=code)

    def hand_out(self, task: dict[str, Any]) -> None:
        """Give ``task`` to a worker, and tell which."""
        wanted = (task["data"], task["folder"])
        idle = [one for one in self.workers.values() if not one.busy and one.link.fileno() >= 0]
        worker = next((one for one in idle if wanted in one.knows and one.runs < _RUNS), None)
        if worker is None:
            for one in idle:
                self.forget(one)
            _preload(*wanted)
            self.loaded |= {wanted}
            worker = self.fork()
        worker.busy, worker.runs = True, worker.runs + 1
        with contextlib.suppress(OSError):  # it has died just now, which is told next
            worker.link.sendall(json.dumps(task).encode() + b"\n")
        _tell(born=worker.pid)

    def fork(self) -> _Worker:
        """A new worker."""
        own, other = socket.socketpair()
        parent = os.getpid()
        gc.freeze()  # what is here stays, and pages that no collection touches stay shared
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for one in [own, *(worker.link for worker in self.workers.values())]:
                    one.close()
                self.events.close()
                code = _serve(other, parent)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        other.close()
        worker = self.workers[pid] = _Worker(pid, own, self.loaded)
        self.events.register(own, selectors.EVENT_READ, worker)
        return worker


def _serve(link: socket.socket, parent: int) -> int:
    """What a worker does: run after run, as they come over ``link``, until one of them fails; its exit code."""
    from equipoise.sweep import worker

    os.setsid()
    worker.end_with(parent)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        for line in link.makefile("rb"):
            task = json.loads(line)
            log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for target in (1, 2):
                os.dup2(log, target)
            os.close(log)
            code = worker.entry(task["arguments"])
            if code:
                return code
            gc.collect()
            sys.stdout.flush()
            sys.stderr.flush()
            link.sendall(b".")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    except Exception as error:  # of a user's model or data
        sys.stderr.write(f"error: {type(error).__name__}: {' '.join(str(error).split())}\n")
        return 1
    return 0


def _preload(name: str, folder: str | None) -> None:
    """Load the data that the worker will ask for, so that all share it. What fails here fails again in the worker."""
    if ":" not in name:  # a user's function is for the worker alone
        with contextlib.suppress(Exception):
            data.load(name, folder=folder)


def _tell(**what: int) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def main() -> None:
    """See to it that each task that comes in is run; end when nothing more can come."""
    import torch

    torch.set_num_threads(1)  # a fork has none of its parent's other threads, and would wait for them for ever
    importlib.import_module("equipoise.sweep.worker")  # so that every fork shares it
    load_plugins()
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # what its first use imports
    parent = _Parent()
    parent.events.register(0, selectors.EVENT_READ)
    while parent.listen():
        pass


if __name__ == "__main__":
    main()
