"""What the reliability tests share: stopping a run on purpose, comparing outcomes, real worker processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.sweep import progress
from equipoise.train import Machine, Run, Summary, storage, train
from equipoise.train.progress import Quiet

TESTS = Path(__file__).resolve().parents[1]
WORKER = (sys.executable, "-W", "error", "-m", "equipoise.sweep.worker")
NOISY = "reliability._nets:noisy"

FORKS = """
import json, os, sys, traceback, torch
from equipoise.sweep import worker
torch.optim.SGD([torch.zeros(1)], lr=0.1)
for line in sys.stdin:
    task = json.loads(line)
    pid = os.fork()
    if pid == 0:
        log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            code = eval(task["call"], {"worker": worker, **task["names"]})
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def with_tests() -> str:
    """A PYTHONPATH by which a process finds the networks of these tests, and whatever this one finds."""
    return os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])


class Watched(Quiet):
    """Keeps the notes, and raises ``number`` in this process after epoch ``at``."""

    def __init__(self, at: int = 0, number: int = signal.SIGINT) -> None:
        self.at, self.number = at, number
        self.notes: list[str] = []

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        if metrics["epoch"] == self.at:
            signal.raise_signal(self.number)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Kept(progress.Quiet):
    """Keeps all that a sweep says on the way."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, float]] = []
        self.words: list[str] = []
        self.notes: list[str] = []

    def done(self, summary: Summary, count: int, left: float) -> None:
        self.said.append((summary.hash, count, left))

    def within(self, words: str) -> None:
        self.words.append(words)

    def note(self, text: str) -> None:
        self.notes.append(text)


def stopped(run: Run, runs: Path, *, at: int, number: int = signal.SIGINT) -> Path:
    """Train ``run`` until a signal after epoch ``at``, with a checkpoint after every step; its folder."""
    summary = train(run, Machine(runs=runs, checkpoint_every=0), progress=Watched(at, number))
    assert summary.status == "stopped"
    return run.folder(runs)


def digest(folder: Path) -> str:
    """SHA-256 of the saved weights."""
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def curve(folder: Path) -> list[dict[str, Any]]:
    """The metrics of every epoch, without the clock."""
    rows = storage.read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


class Launcher:
    """A process that has imported everything and forks a process for each task, to save the start-up of torch."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", FORKS],
            cwd=TESTS,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._log = Path()

    @property
    def pid(self) -> int:
        """The process that is every task's parent."""
        return self._process.pid

    def start(self, run: Run, runs: Path, *flags: str) -> int:
        """Begin to train ``run`` in a process of its own; its id."""
        spec = runs / f"{run.hash}.json"
        spec.write_text(run.to_json())
        argv = ["--spec", str(spec), "--runs", str(runs), *flags]
        return self.call("worker.entry(argv)", runs / f"{run.hash}.log", argv=argv)

    def call(self, expression: str, log: Path, **names: Any) -> int:
        """Begin to evaluate ``expression``, the exit code, in a process of its own; its id."""
        assert self._process.stdin is not None
        self._log = log
        self._process.stdin.write(json.dumps({"call": expression, "log": str(log), "names": names}) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """The exit code of the process, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(int(self._read()))

    def said(self) -> str:
        """What the last process printed."""
        return self._log.read_text()

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
