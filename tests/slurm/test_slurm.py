"""SLURM: a failure here hides a cluster's night in which runs were lost, run twice, or queued for ever.

Everything runs against a real controller with one node, which `make test-slurm` starts on this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.errors import InputError
from equipoise.train import Machine, Run, Summary, train
from reliability._sessions import Kept, digest

pytestmark = pytest.mark.skipif(not os.environ.get("EQUIPOISE_TEST_SLURM"), reason="`make test-slurm` runs these")

SMALL = Run(epochs=1, train_limit=200)
LONG = Run(epochs=150)
OPTIONS = {"time": "10m"}
LATE = 240.0


def ask(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def jobs() -> list[str]:
    return ask("squeue", "--me", "--array", "-h", "-o", "%A")


def until(ready: Callable[[], Any]) -> Any:
    """What ``ready`` gives once it gives something; fails far too late, so that no test hangs."""
    end = time.monotonic() + LATE
    while not (found := ready()):
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.1)
    return found


def trains(run: Run, runs: Path) -> Callable[[], bool]:
    path = run.folder(runs) / "metrics.jsonl"
    return lambda: path.exists() and path.stat().st_size > 0


def beside(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long run where nobody disturbs it."""
    folder = tmp_path_factory.mktemp("alone")
    train(LONG, Machine(runs=folder, threads=1))
    return digest(LONG.folder(folder))


def on_slurm(runs: list[Run], folder: Path, **more: Any) -> list[Summary]:
    given = {"options": OPTIONS, **more}
    return sweep.execute(runs, Machine(runs=folder, checkpoint_every=1000), executor="slurm", **given)


def said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((folder / ".slurm").rglob("*_log.*")))


def test_an_array_gives_what_local_runs_give_and_failures_their_own_words(tmp_path: Path) -> None:
    runs = [Run.from_json(SMALL.to_dict() | {"seed": seed}) for seed in range(3)] + [Run(rule="nothing")]
    kept = Kept()
    summaries = on_slurm(runs, tmp_path, options={**OPTIONS, "per_job": 2}, workers=1, progress=kept)
    assert [summary.status for summary in summaries] == ["finished"] * 3 + ["failed"]
    assert "unknown rule 'nothing'" in summaries[3].message
    assert "4 runs are queued in 2 jobs" in kept.notes[0]
    assert {summary.threads for summary in summaries[:3]} == {1}
    train(runs[1], Machine(runs=tmp_path / "alone", threads=1))
    assert digest(runs[1].folder(tmp_path)) == digest(runs[1].folder(tmp_path / "alone"))
    script = next((tmp_path / ".slurm").rglob("*.sh")).read_text()
    assert "--array=0-1%1" in script
    assert "--time=10" in script
    before = jobs()
    assert [s.status for s in on_slurm(runs[:3], tmp_path)] == ["finished"] * 3
    assert set(jobs()) <= set(before)  # those that were there may have left meanwhile


@pytest.mark.parametrize("number", ["USR2", "TERM"])
def test_a_job_that_is_told_to_go_saves_waits_and_goes_on(number: str, tmp_path: Path, alone: str) -> None:
    """USR2 comes before the end of the time limit, TERM when a job is pre-empted; no checkpoint was due."""

    def interrupt() -> None:
        until(trains(LONG, tmp_path))
        (job,) = ask("squeue", "--me", "-h", "-o", "%A", "-t", "RUNNING")
        subprocess.run(["scancel", f"--signal={number}", job], check=True, timeout=60)
        until(lambda: ask("squeue", "--me", "-h", "-o", "%T", "-j", job) == ["PENDING"])
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, timeout=60)

    thread = beside(interrupt)
    (summary,) = on_slurm([LONG], tmp_path)
    thread.join()
    assert summary.status == "finished"
    assert "resumed at step" in said(tmp_path)
    assert digest(LONG.folder(tmp_path)) == alone


def test_a_more_urgent_job_takes_the_node_and_the_run_goes_on_behind_it(tmp_path: Path) -> None:
    def preempt() -> None:
        until(trains(LONG, tmp_path))
        (job,) = ask("squeue", "--me", "-h", "-o", "%A", "-t", "RUNNING")
        subprocess.run(
            ["sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"], check=True, timeout=60
        )
        until(lambda: ask("squeue", "--me", "-h", "-o", "%T", "-j", job) == ["PENDING"])
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, timeout=60)

    thread = beside(preempt)
    (summary,) = on_slurm([LONG], tmp_path)
    thread.join()
    assert summary.status == "finished"
    assert "resumed at step" in said(tmp_path)


def test_ctrl_c_leaves_the_jobs_and_the_same_command_waits_for_them(tmp_path: Path) -> None:
    runs, kept = [LONG, SMALL], Kept()
    thread = beside(lambda: (until(trains(LONG, tmp_path)), os.kill(os.getpid(), signal.SIGINT)))
    first = on_slurm(runs, tmp_path, progress=kept)
    thread.join()
    assert (first[0].status, first[0].cause) == ("stopped", "SIGINT")
    assert f"equipoise status {tmp_path}" in kept.notes[-1]
    assert "scancel" in kept.notes[-1]
    assert len(jobs()) >= 1
    assert {one.state for one in sweep.survey(tmp_path) if one.hash == LONG.hash} == {"running"}
    again = Kept()
    second = on_slurm(runs, tmp_path, progress=again)
    assert [summary.status for summary in second] == ["finished"] * 2
    assert "in the queue already" in again.notes[0]
    assert not any("are queued in" in note for note in again.notes)
    assert len(list((tmp_path / ".slurm").rglob("jobs.json"))) == 1


def test_a_driver_that_is_killed_and_a_job_that_is_cancelled_cost_nothing_but_time(tmp_path: Path) -> None:
    """kill -9 of the driver: its jobs go on. scancel: the run saves, and the same command queues it again."""
    code = (
        "import sys; from equipoise import sweep; from equipoise.train import Machine, Run; "
        "sweep.execute([Run(epochs=150)], Machine(runs=sys.argv[1]), executor='slurm', options={'time': '10m'})"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    until(trains(LONG, tmp_path))
    driver.kill()
    driver.wait()
    thread = beside(lambda: (time.sleep(1.5), subprocess.run(["scancel", "--me"], check=True, timeout=60)))
    kept = Kept()
    (cancelled,) = on_slurm([LONG], tmp_path, progress=kept)
    thread.join()
    assert "in the queue already" in kept.notes[0]
    assert cancelled.status == "stopped"
    assert cancelled.steps > 0
    (summary,) = on_slurm([LONG], tmp_path)
    assert summary.status == "finished"
    assert "resumed at step" in said(tmp_path)
    assert len(sweep.collect(tmp_path)) == 1


def test_what_sbatch_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    before = jobs()
    with pytest.raises(InputError, match=r"sbatch refuses the jobs: .*invalid partition"):
        on_slurm([SMALL, LONG], tmp_path, options={"partition": "nowhere"})
    with pytest.raises(InputError, match="unrecognized option"):
        on_slurm([SMALL, LONG], tmp_path, options={"partitoin": "main"})
    assert set(jobs()) <= set(before)
