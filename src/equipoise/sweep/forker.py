"""The process that forks workers: it hands each task to an idle worker, or to a new one, and tells when a run ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from equipoise import data
from equipoise.user_code import load_plugins

__all__ = ["main"]

_TICK = 0.2
_RUNS = 100  # of one worker, so that what a run may leak does not grow for ever


@dataclass(eq=False)
class Worker:
    """A forked process as its parent sees it; ``knows`` are the data sets that were loaded before it was forked."""

    pid: int
    link: socket.socket
    knows: frozenset[tuple[str, str | None]]
    runs: int = 0
    busy: bool = False


class Parent:
    """Knows the workers; ``listen`` is one round of what a process that forks does."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.loaded: frozenset[tuple[str, str | None]] = frozenset()
        self.heard = b""
        self.events = selectors.DefaultSelector()

    def listen(self) -> bool:
        """Take in one round of what comes, from the sweep and from workers; False once nothing more can come."""
        asked = False
        for key, _ in self.events.select(_TICK):
            if key.data is None:
                asked = True
            else:
                self.hear(key.data)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.bury(ended[0], os.waitstatus_to_exitcode(ended[1]))
        if asked:  # last, so that no task goes to the dead
            piece = os.read(0, 65536)
            if not piece:
                return False
            *lines, self.heard = (self.heard + piece).split(b"\n")
            for line in lines:
                self.hand_out(json.loads(line))
        return True

    def hear(self, worker: Worker) -> None:
        """A worker has finished a run, or it has ended, which ``waitpid`` tells in a moment."""
        with contextlib.suppress(OSError):
            if worker.link.recv(1):
                worker.busy = False
                _tell(ended=worker.pid, code=0)
                if worker.runs >= _RUNS:
                    self.forget(worker)
                return
        self.forget(worker)
        end = time.monotonic() + _TICK
        while time.monotonic() < end and os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            time.sleep(0.001)

    def forget(self, worker: Worker) -> None:
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
        worker = next((one for one in idle if wanted in one.knows), None)
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

    def fork(self) -> Worker:
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
        worker = self.workers[pid] = Worker(pid, own, self.loaded)
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
            try:
                link.sendall(b".")
            except OSError:  # nobody is left to hear it
                return 0
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
    parent = Parent()
    parent.events.register(0, selectors.EVENT_READ)
    while parent.listen():
        pass


if __name__ == "__main__":
    main()
