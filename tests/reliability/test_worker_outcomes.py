"""How a worker process ended: a failure here hides a dead worker behind what an earlier session had written.

The workers here are one-line programs, so that every end can be had on purpose.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from equipoise.sweep.processes import processes
from equipoise.train import Machine, Run, Summary
from reliability._sessions import NOISY, Launcher

RUN = Run(epochs=1)
ENDS = {
    "import os; os.kill(os.getpid(), 9)": "the worker was killed by SIGKILL",
    "import sys; sys.exit('error: the disk is full')": "the disk is full",
    "import sys; sys.exit(1)": "the worker ended with exit code 1",
    "raise RuntimeError('lost')": "RuntimeError: lost",
}


@pytest.mark.parametrize("program", ENDS)
@pytest.mark.parametrize("before", ["nothing", "stopped", "failed"])
def test_a_dead_worker_is_a_failure_whatever_lies_in_its_folder(program: str, before: str, tmp_path: Path) -> None:
    folder = RUN.folder(tmp_path)
    if before != "nothing":
        folder.mkdir(parents=True)
        Summary(status=before, hash=RUN.hash, steps=7, cause="SIGINT", message="an earlier session").write(folder)
    (summary,) = processes([RUN], Machine(runs=tmp_path), 1, command=(sys.executable, "-c", program))
    assert (summary.status, summary.hash, summary.steps) == ("failed", RUN.hash, 0)
    assert ENDS[program] in summary.message


def test_a_worker_that_saved_brings_its_own_summary(tmp_path: Path) -> None:
    folder = RUN.folder(tmp_path)
    folder.mkdir(parents=True)
    saved = Summary(status="stopped", hash=RUN.hash, steps=7, cause="SIGTERM", message="saved")
    saved.write(folder)
    (summary,) = processes(
        [RUN], Machine(runs=tmp_path), 1, command=(sys.executable, "-c", "import sys; sys.exit(143)")
    )
    assert summary == saved


def test_a_worker_does_not_hear_the_terminal(tmp_path: Path) -> None:
    """Ctrl-C goes to the terminal's foreground group; a worker in another one is told by the sweep alone, once."""
    program = "import os; print(os.getpgid(0), os.getsid(0)); raise SystemExit(1)"
    (summary,) = processes([RUN], Machine(runs=tmp_path), 1, command=(sys.executable, "-c", program))
    group, session = map(int, summary.message.split())
    assert group != os.getpgid(0)
    assert session != os.getsid(0)


def test_its_own_error_counts_not_what_another_sweep_writes_to_the_log(tmp_path: Path) -> None:
    program = "print('error: in use'); print('epoch 3/9  loss 0.1'); raise SystemExit(1)"
    (summary,) = processes([RUN], Machine(runs=tmp_path), 1, command=(sys.executable, "-c", program))
    assert summary.message == "in use"


def test_a_worker_whose_sweep_is_killed_saves_and_ends(tmp_path: Path) -> None:
    """``kill -9`` of a sweep leaves nobody training in the dark, and nothing is lost."""
    run = Run(model=NOISY, epochs=100_000)
    sweep = Launcher()
    worker = sweep.start(run, tmp_path, "--parent", str(sweep.pid))
    folder, end = run.folder(tmp_path), time.monotonic() + 120
    try:
        while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.close()
        end = time.monotonic() + 30
        while not (folder / "summary.json").exists():
            assert time.monotonic() < end, "the worker goes on"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    summary = Summary.read(folder)
    assert (summary.status, summary.cause) == ("stopped", "SIGTERM")


def test_a_worker_is_told_whose_it_is(tmp_path: Path) -> None:
    program = "import sys; sys.exit('error: ' + ' '.join(sys.argv))"
    (summary,) = processes([RUN], Machine(runs=tmp_path), 1, command=(sys.executable, "-c", program))
    assert summary.message.endswith(f"--parent {os.getpid()}")
