"""What a SLURM job does on its node: train its runs in turn; save, and queue again, when the cluster wants the node."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.sweep.executors import local
from equipoise.train import Machine, Run, Summary, storage
from equipoise.train.progress import Lines
from equipoise.train.stop import Stopper
from equipoise.user_code import load_plugins

__all__ = ["Job", "outcome_file"]

# Pre-emption sends SIGTERM, the end of the time limit the signal that submitit asked for.
_TRIES = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def outcome_file(folder: Path, name: str) -> Path:
    """Where the job that trained the run with the hash ``name`` says how that ended."""
    return folder / f"{name}.json"


@dataclass(frozen=True)
class Job:
    """Runs for one job, as text: pickled by submitit, it holds no module and no tensor.

    ``folder`` gets one summary for each run that has ended. A run that is stopped because the cluster wants the node
    has not: the job goes back into the queue and goes on from the checkpoint.
    """

    specs: tuple[str, ...]
    machine: str
    folder: str

    @classmethod
    def of(cls, runs: list[Run], machine: Machine, folder: Path) -> Job:
        """The job that trains ``runs`` on ``machine``."""
        return cls(tuple(r.to_json() for r in runs), json.dumps(dataclasses.asdict(machine)), str(folder))

    def checkpoint(self) -> Any:
        """What submitit queues again: the same job, since its progress lies in the runs' folders."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def __call__(self) -> str:
        """Train the runs that are not finished; the reason why it was stopped, or ""."""
        load_plugins()
        requeue = _requeue()
        stopper = Stopper(signals=_SIGNALS, patience=True)
        with stopper.listening():
            for text in self.specs:
                if not stopper.reason:
                    self._train(Run.from_json(text), stopper)
        if stopper.reason and _is_running():
            requeue()
        return stopper.reason

    def _train(self, run: Run, stopper: Stopper) -> None:
        folder, machine = Path(self.folder), Machine(**json.loads(self.machine))
        if outcome_file(folder, run.hash).exists():  # told before this job was queued again
            return
        begun = folder / f"{run.hash}.begun"
        if begun.exists():  # --force is for the first start alone: later ones go on
            machine = dataclasses.replace(machine, force=False)
        begun.touch()
        trained: Any = local
        for summary in trained([run], machine, 1, progress=Lines(sys.stdout), stopper=stopper):
            if summary.status != "stopped":
                _tell(summary, folder)


def _tell(summary: Summary, folder: Path) -> None:
    storage.write_json(outcome_file(folder, summary.hash), dataclasses.asdict(summary))


def _requeue() -> Callable[[], object]:
    """What submitit had put behind its signal: it writes the job anew, queues it again and ends the process."""
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        handler = signal.getsignal(number)
        if callable(handler):
            return lambda handler=handler, number=number: handler(number, None)
    return lambda: None


def _is_running() -> bool:
    """Whether SLURM lets this job run: one that is cancelled, or queued again by SLURM itself, must not be queued."""
    command = ["squeue", "-h", "-j", os.environ.get("SLURM_JOB_ID", ""), "-o", "%T"]
    said: list[str] = []
    for _ in range(_TRIES):  # a busy controller may have nothing to say for a moment
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.split()
        if said:
            break
        time.sleep(1.0)
    return said == ["RUNNING"]
