"""Worker processes that begin at once: one process imports everything and forks workers, each for several runs.

To import torch takes seconds, and to fork and warm up a process a tenth of one; short runs take no longer than that.
A worker that has finished a run waits for the next one; one whose run failed or was stopped ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Forked", "Forks", "possible"]


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
            if self.returncode is None and not Path(f"/proc/{self.pid}").exists() and not self._forks.listen(1.0):
                self.returncode = -signal.SIGKILL  # its end was told to somebody who was interrupted


class Forks:
    """The process that forks, seen from the sweep. Its workers save and end when it is gone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "equipoise.sweep.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
        self._live: dict[int, Forked] = {}
        self._heard = b""
        self._told: deque[bytes] = deque()
        self._born: list[Forked] = []

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
        return self._born.pop()

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
            self._told.extend(lines)
        while self._told:
            self._take(json.loads(self._told.popleft()))
        return heard

    def _take(self, told: dict[str, int]) -> None:
        """A run may have ended by the time that its beginning is heard."""
        if "born" in told:
            worker = self._live[told["born"]] = Forked(told["born"], self)
            self._born.append(worker)
        elif told["ended"] in self._live:
            self._live.pop(told["ended"]).returncode = told["code"]

    def close(self) -> None:
        """Let it end; workers that live are asked to save and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
