"""Several drivers, and drivers that die: a failure here loses a finished run, counts one twice, or trains one twice."""

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
from equipoise.sweep import forks
from equipoise.train import Machine, Run, Summary, lock, storage, train
from reliability._sessions import NOISY, TESTS, digest

SMALL = Run(epochs=1, train_limit=200)
DRIVER = """
import sys
from equipoise import sweep
from equipoise.train import Machine, Run
runs = [Run(model="{model}", epochs={epochs}, train_limit=200, seed=seed) for seed in range({count})]
found = sweep.execute(runs, Machine(runs=sys.argv[1], checkpoint_every=0.1), executor="processes", workers=2)
sys.exit(0 if all(one.status == "finished" for one in found) else 1)
"""


def until(ready: Callable[[], Any]) -> Any:
    end = time.monotonic() + 240
    while not (found := ready()):
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.01)
    return found


def driver(folder: Path, *, epochs: int, count: int = 3, model: str = NOISY) -> subprocess.Popen[bytes]:
    code = DRIVER.format(model=model, epochs=epochs, count=count)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=TESTS)


def same(count: int, epochs: int) -> list[Run]:
    return [Run(model=NOISY, epochs=epochs, train_limit=200, seed=seed) for seed in range(count)]


def test_a_run_that_another_process_has_is_waited_for(tmp_path: Path) -> None:
    """The other one finishes it; this driver comes back with its summary and has trained nothing of it."""
    mine, other = (Run.from_json(SMALL.to_dict() | {"seed": seed}) for seed in range(2))
    folder = other.folder(tmp_path)
    folder.mkdir(parents=True)
    elsewhere = threading.Event()
    holder = lock.Holder("1", "another-host", True)

    def asked(path: Path) -> lock.Holder | None:
        return holder if path == folder and not elsewhere.is_set() else None

    def finish() -> None:
        until(lambda: (mine.folder(tmp_path) / "weights.safetensors").exists())
        time.sleep(0.3)
        train(other, Machine(runs=tmp_path, threads=1))
        elsewhere.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "holder", asked)
        begun: list[str] = []

        def once(runs: list[Run], machine: Machine, workers: int) -> Any:
            for run in runs:
                begun.append(run.hash)
                if sweep.turns.taken(run, machine):
                    yield Summary(status="failed", hash=run.hash, message="in use")
                else:
                    yield train(run, machine)

        sweep.executors.register("once")(once)
        thread = threading.Thread(target=finish)
        thread.start()
        try:
            found = sweep.execute([other, mine], Machine(runs=tmp_path), executor="once")
        finally:
            sweep.executors.remove("once")
        thread.join()
    assert [summary.status for summary in found] == ["finished"] * 2
    assert begun == [other.hash, mine.hash]


def test_a_run_whose_holder_gave_up_is_tried_again(tmp_path: Path) -> None:
    """A failure of its own, which no process holds, is told at once and not tried again."""
    bad = Run(rule="nothing")
    tries = 0

    def busy(runs: list[Run], machine: Machine, workers: int) -> Any:
        nonlocal tries
        for run in runs:
            tries += 1
            if run is bad:
                yield Summary(status="failed", hash=run.hash, message="unknown rule")
            elif tries == 1:
                yield Summary(status="failed", hash=run.hash, message="in use")
            else:
                yield train(run, machine)

    answers = [lock.Holder("1", "another-host", True)]
    sweep.executors.register("busy")(busy)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock, "holder", lambda folder: answers.pop() if answers else None)
            found = sweep.execute([SMALL, bad], Machine(runs=tmp_path), executor="busy")
    finally:
        sweep.executors.remove("busy")
    assert [summary.status for summary in found] == ["finished", "failed"]
    assert tries == 3


def test_workers_are_forked_and_end_each_in_its_own_way(tmp_path: Path) -> None:
    """One finishes as a solo run does, one is refused, one is killed; the forking process outlives them all."""
    spec, log = tmp_path / "spec.json", tmp_path / "log"
    spec.write_text(SMALL.to_json())
    given = forks.Forks(os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        flags = ["--runs", str(tmp_path), "--threads", "1"]
        one = given.start(["--spec", str(spec), *flags], log, data="digits", folder=None)
        two = given.start(["--spec", str(tmp_path / "none.json"), *flags], log, data="digits", folder=None)
        one.wait()
        two.wait()
        assert (one.returncode, two.returncode) == (0, 2)
        assert "no spec file" in log.read_text()
        assert os.getsid(0) != one.pid
        spec.write_text(Run(epochs=100_000).to_json())
        three = given.start(["--spec", str(spec), *flags], log, data="digits", folder=None)
        three.kill()
        three.wait()
        assert three.returncode == -signal.SIGKILL
    finally:
        given.close()
    train(SMALL, Machine(runs=tmp_path / "alone", threads=1))
    assert digest(SMALL.folder(tmp_path)) == digest(SMALL.folder(tmp_path / "alone"))


def test_workers_of_several_threads_are_forked_too(tmp_path: Path) -> None:
    """A fork has none of the threads that its parent computed with, and waits for them for ever."""
    spec = tmp_path / "spec.json"
    spec.write_text(SMALL.to_json())
    given = forks.Forks(os.environ | {"OMP_NUM_THREADS": "2"})
    try:
        words = ["--spec", str(spec), "--runs", str(tmp_path), "--threads", "2"]
        one = given.start(words, tmp_path / "log", data="digits", folder=None)
        end = time.monotonic() + 60
        while one.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        one.kill()
        one.wait()
        assert one.returncode == 0, "it hung"
        assert Summary.read(SMALL.folder(tmp_path)).threads == 2
    finally:
        given.close()


@pytest.mark.slow
def test_workers_start_without_the_process_that_forks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(forks.Forks, "start", gone)
    (summary,) = sweep.execute([SMALL], Machine(runs=tmp_path), executor="processes", workers=1)
    assert summary.status == "finished"


@pytest.mark.slow
def test_two_drivers_share_the_runs_of_one_folder(tmp_path: Path) -> None:
    first, second = driver(tmp_path, epochs=40), driver(tmp_path, epochs=40)
    assert (first.wait(timeout=400), second.wait(timeout=400)) == (0, 0)
    rows = sweep.collect(tmp_path)
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for run in same(3, 40):
        lines = storage.read_lines(run.folder(tmp_path) / "metrics.jsonl")
        assert [line["epoch"] for line in lines] == list(range(1, 41))
        log = (run.folder(tmp_path) / "worker.log").read_text()
        assert log.count("finished after") == 1


@pytest.mark.slow
def test_a_driver_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """kill -9 of the driver alone: its workers save and end by themselves, and the same command goes on."""
    killed = driver(tmp_path, epochs=400)
    folders = [run.folder(tmp_path) for run in same(3, 400)]
    until(lambda: any((f / "metrics.jsonl").exists() and (f / "metrics.jsonl").stat().st_size for f in folders))
    killed.kill()
    killed.wait()
    until(lambda: not any(one.state == "running" for one in sweep.survey(tmp_path)))
    before = {one.hash: one.epoch for one in sweep.survey(tmp_path)}
    assert any(before.values())
    assert driver(tmp_path, epochs=400).wait(timeout=400) == 0
    train(same(1, 400)[0], Machine(runs=tmp_path / "alone", threads=1))
    assert digest(folders[0]) == digest(same(1, 400)[0].folder(tmp_path / "alone"))
    assert len(sweep.collect(tmp_path)) == 3


@pytest.mark.slow
def test_a_sweep_of_many_tiny_runs_killed_again_and_again(root: Path, tmp_path: Path) -> None:
    """Driver and workers at once, and the driver alone; the table is that of an undisturbed sweep, weights and all."""
    command = [sys.executable, "-m", "equipoise", "compare", "--seeds", "6", "--epochs", "40"]
    command += ["--executor", "processes", "--workers", "2", "--checkpoint-every", "0.2s"]
    given = ["--kills", "4", "--longest", "1.5", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "kill_sweep.py"), *given, "--", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "24 runs, 4 kills: equal"


def test_a_truncated_plan_is_passed_over(tmp_path: Path) -> None:
    sweep.plan(tmp_path, [SMALL, Run(seed=1)])
    (path,) = (tmp_path / ".sweeps").glob("*.json")
    assert len(sweep.survey(tmp_path)) == 2
    path.write_text(path.read_text()[:-9])
    assert sweep.survey(tmp_path) == []
