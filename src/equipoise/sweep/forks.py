"""Worker processes that begin at once: one process imports everything and forks a worker for each run.

To import torch takes seconds, to fork milliseconds; a sweep of short runs would else mostly import.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import data
from equipoise.user_code import load_plugins

__all__ = ["Forked", "Forks", "main", "possible"]

_TICK = 0.02


def possible(device: str) -> bool:
    """Whether workers may be forked: on Linux, and for the CPU, since a driver's state does not survive a fork."""
    return sys.platform == "linux" and device == "cpu"


class Forked:
    """A worker, with the few methods of ``subprocess.Popen`` that a sweep needs."""

    def __init__(self, pid: int, forks: Forks) -> None:
        self.pid, self.returncode = pid, None
        self._forks = forks

    returncode: int | None

    def poll(self) -> int | None:
        """The exit code, negative for the signal that ended it; None while it lives."""
        self._forks.listen()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send ``number`` if it still lives: until its end is told, its id is nobody else's."""
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
        words = [*arguments, "--parent", str(self._process.pid)]
        task = {"arguments": words, "log": str(log), "data": data, "folder": folder}
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
            self._live.pop(told["dead"]).returncode = told["code"]

    def close(self) -> None:
        """Let it end; workers that live are asked to save and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _worker(task: Mapping[str, Any]) -> int:
    """What a forked process does; its exit code."""
    from equipoise.sweep import worker

    os.setsid()
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    try:
        return worker.entry(task["arguments"])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    except Exception as error:  # of a user's model or data
        sys.stderr.write(f"error: {type(error).__name__}: {' '.join(str(error).split())}\n")
        return 1


def _preload(name: str, folder: str | None) -> None:
    """Load the data that the worker will ask for, so that all share it. What fails here fails again in the worker."""
    if ":" not in name:  # a user's function is for the worker alone
        with contextlib.suppress(Exception):
            data.load(name, folder=folder)


def _tell(**what: int) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def main() -> None:
    """Fork a worker for each line that comes in, and tell when it ends; end when nothing more can come."""
    import torch

    torch.set_num_threads(1)  # a fork has none of its parent's other threads, and would wait for them for ever
    importlib.import_module("equipoise.sweep.worker")  # so that every fork shares it
    load_plugins()
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # what its first use imports
    heard = b""
    while True:
        if select.select([0], [], [], _TICK)[0]:
            piece = os.read(0, 65536)
            if not piece:
                return
            *lines, heard = (heard + piece).split(b"\n")
            for line in lines:
                task = json.loads(line)
                _preload(task["data"], task["folder"])
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        code = _worker(task)
                        sys.stdout.flush()
                        sys.stderr.flush()
                    finally:
                        os._exit(code)
                _tell(born=pid)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _tell(dead=ended[0], code=os.waitstatus_to_exitcode(ended[1]))


if __name__ == "__main__":
    main()
