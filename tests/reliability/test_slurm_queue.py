"""The SLURM executor without SLURM: squeue is a file here. A failure hides a run queued twice, or lost from the queue.

`make test-slurm` has the real controller.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import equipoise.sweep.slurm  # noqa: F401 (the function of that name hides the module)
from equipoise import sweep
from equipoise.errors import InputError
from equipoise.sweep.slurm_job import Job, outcome_file
from equipoise.sweep.slurm_queue import Options, Queue, Ticket
from equipoise.train import Machine, Run, Summary, storage, train
from equipoise.train.stop import Stopper
from reliability._sessions import Kept

RUNS = [Run(epochs=1, train_limit=60, test_limit=60, seed=seed) for seed in range(3)]


# Job 12, task 3 is in the queue as name|3|STATE|12.
SCANCEL = """for job; do sed -i "/|${{job#*_}}|[A-Z]*|${{job%_*}}$/d" {}; done"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write what squeue says, and let scancel strike out the tasks that it is given."""
    binaries, answer = tmp_path / "bin", tmp_path / "answer"
    binaries.mkdir()
    for name, line in (("squeue", f"cat {answer}"), ("scancel", SCANCEL.format(answer))):
        (binaries / name).write_text(f"#!/bin/sh\n{line}\n")
        (binaries / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    module = sys.modules["equipoise.sweep.slurm"]
    for name, seconds in (("LOOK", 0.02), ("ASK", 0.04), ("GRACE", 0.1)):
        monkeypatch.setattr(module, name, seconds)

    def say(*lines: str) -> None:
        answer.write_text("".join(f"{line}|12\n" for line in lines))

    say()
    return say


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """Three runs that an earlier call has queued in two jobs."""
    folder = tmp_path / "runs" / ".slurm" / "ab12cd34"
    folder.mkdir(parents=True)
    jobs = [[RUNS[0].hash, RUNS[1].hash], [RUNS[2].hash]]
    (folder / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    return folder


def wait_for(runs: list[Run], folder: Path, **more: object) -> list[Summary]:
    kept = more.pop("progress", None)
    return sweep.execute(runs, Machine(runs=folder, **more), executor="slurm", progress=kept)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("4h", 240), ("90s", 2), ("30", 30), ("30:01", 31), ("04:00:00", 240), ("2-12", 3600), ("2-12:30", 3630)],
)
def test_times_are_read_as_slurm_reads_them(text: str, minutes: int) -> None:
    assert Options.read({"time": int(text) if text.isdigit() else text}).minutes() == minutes


def test_options_of_ours_are_ours_and_the_rest_is_sbatchs() -> None:
    chosen = Options.read({"per_job": 3, "cpus-per-task": 2, "partition": "gpu", "setup": "module load x"})
    assert (chosen.per_job, chosen.setup) == (3, "module load x")
    assert chosen.sbatch == {"cpus_per_task": 2, "partition": "gpu"}
    for bad, words in (
        ({"array": "0-3"}, "set by equipoise"),
        ({"per-job": 0}, "from 1 on"),
        ({"time": "soon"}, "duration"),
    ):
        with pytest.raises(InputError, match=words):
            Options.read(bad)
    with pytest.raises(InputError, match="'local' has no options"):
        sweep.execute(RUNS, options={"partition": "gpu"})


def test_the_queue_is_read_by_name_and_index(queue: Callable[..., None], submission: Path) -> None:
    queue("equipoise-ab12cd34|1|PENDING", "another|0|RUNNING", "equipoise-ffffffff|N/A|RUNNING")
    asked = Queue.ask()
    assert asked is not None
    assert Ticket(submission, 1) in asked
    assert Ticket(submission, 0) not in asked
    assert asked.state(Ticket(submission.parent / "ffffffff", 0)) == "RUNNING"
    assert asked.runs(submission.parent) == {RUNS[2].hash: Ticket(submission, 1)}


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no SLURM on this machine"):
        wait_for(RUNS, tmp_path)


def test_what_is_queued_is_waited_for_and_every_end_is_told(
    queue: Callable[..., None], submission: Path, tmp_path: Path
) -> None:
    """One run finishes and says so, one finishes and its job dies before it could, one dies without a word."""
    queue("equipoise-ab12cd34|0|RUNNING", "equipoise-ab12cd34|1|RUNNING")
    runs, kept = tmp_path / "runs", Kept()

    def act() -> None:
        for run in RUNS[:2]:
            train(run, Machine(runs=runs, threads=1))
        storage.write_json(outcome_file(submission, RUNS[0].hash), {"status": "finished", "hash": RUNS[0].hash})
        (submission / "7_1_0_log.err").write_text("error: out of memory\n")
        queue()

    thread = threading.Thread(target=act)
    thread.start()
    found = wait_for(RUNS, runs, progress=kept)
    thread.join()
    assert [summary.status for summary in found] == ["finished", "finished", "failed"]
    assert "out of memory" in found[2].message
    assert kept.notes == ["3 of 3 runs are in the queue already"]
    assert any(words.startswith("2 jobs running, 0 waiting") for words in kept.words)


def test_ctrl_c_leaves_what_is_queued(queue: Callable[..., None], submission: Path, tmp_path: Path) -> None:
    queue("equipoise-ab12cd34|0|PENDING", "equipoise-ab12cd34|1|PENDING")
    kept = Kept()
    thread = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    thread.start()
    found = wait_for(RUNS, tmp_path / "runs", progress=kept)
    thread.join()
    assert {(summary.status, summary.cause) for summary in found} == {("stopped", "SIGINT")}
    assert "equipoise-ab12cd34" in kept.notes[-1]
    asked = Queue.ask()
    assert asked is not None
    assert Ticket(submission, 0) in asked


def test_the_time_limit_cancels_and_what_was_saved_comes_back(
    queue: Callable[..., None], submission: Path, tmp_path: Path
) -> None:
    queue("equipoise-ab12cd34|0|RUNNING", "equipoise-ab12cd34|1|PENDING")
    runs = tmp_path / "runs"
    RUNS[0].folder(runs).mkdir(parents=True)
    saved = Summary(status="stopped", hash=RUNS[0].hash, steps=7, cause="SIGTERM", message="saved")
    saved.write(RUNS[0].folder(runs))
    found = wait_for(RUNS, runs, time_limit=0.3)
    assert found[0] == saved
    assert [(s.status, s.cause) for s in found[1:]] == [("stopped", "time limit")] * 2
    asked = Queue.ask()
    assert asked is not None
    assert Ticket(submission, 0) not in asked


def test_the_time_limit_leaves_the_jobs_of_others(queue: Callable[..., None], submission: Path, tmp_path: Path) -> None:
    """Of what another call has queued this one asks for one run in a job of two, and for one that is alone in its."""
    queue("equipoise-ab12cd34|0|PENDING", "equipoise-ab12cd34|1|PENDING")
    found = wait_for(RUNS[1:], tmp_path / "runs", time_limit=0.3)
    assert [(s.status, s.cause) for s in found] == [("stopped", "time limit")] * 2
    assert [s.message for s in found] == ["its job is still in the queue", "not started"]
    asked = Queue.ask()
    assert asked is not None
    assert Ticket(submission, 0) in asked
    assert Ticket(submission, 1) not in asked


def test_a_job_forces_once_and_tells_how_its_runs_ended(tmp_path: Path) -> None:
    folder = tmp_path / "told"
    folder.mkdir()
    machine = Machine(runs=tmp_path, threads=1, force=True)
    job = Job.of([RUNS[0], Run(rule="nothing")], machine, folder)
    assert job() == ""
    first = Summary.from_dict(storage.read_json(outcome_file(folder, RUNS[0].hash)))
    assert first.status == "finished"
    assert "unknown rule" in storage.read_json(outcome_file(folder, Run(rule="nothing").hash))["message"]
    job()  # as after a requeue: what is finished stays
    assert Summary.from_dict(storage.read_json(outcome_file(folder, RUNS[0].hash))) == first


def test_a_patient_stopper_keeps_the_first_of_several_signals() -> None:
    stopper = Stopper(signals=(signal.SIGUSR2, signal.SIGTERM), patience=True)
    before = signal.getsignal(signal.SIGUSR2)
    with stopper.listening():
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        time.sleep(0)
    assert stopper.reason == "SIGUSR2"
    assert signal.getsignal(signal.SIGUSR2) == before
