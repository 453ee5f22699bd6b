"""Workers that train several runs: a failure here lets one run change the next, or waits for the dead."""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.sweep import forker, forks
from equipoise.train import Machine, Run, train
from reliability._sessions import NOISY, digest, with_tests

SMALL = Run(epochs=1, train_limit=200)


@pytest.fixture
def given() -> Iterator[forks.Forks]:
    one = forks.Forks(os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": with_tests()})
    yield one
    one.close()


def begun(given: forks.Forks, run: Run, folder: Path, *flags: str) -> forks.Forked:
    spec = folder / f"{run.hash}.json"
    spec.write_text(run.to_json())
    words = ["--spec", str(spec), "--runs", str(folder), "--threads", "1", *flags]
    return given.start(words, folder / f"{run.hash}.log", data=run.data, folder=None)


def ended(given: forks.Forks, run: Run, folder: Path, *flags: str) -> tuple[int, int | None]:
    one = begun(given, run, folder, *flags)
    one.wait()
    return one.pid, one.returncode


def test_a_worker_trains_run_after_run_as_if_each_were_alone(given: forks.Forks, tmp_path: Path) -> None:
    wanted = [dataclasses.replace(SMALL, model=NOISY, seed=seed, rule=rule) for seed, rule in enumerate(("bp", "fa"))]
    pids = {ended(given, run, tmp_path) for run in wanted}
    assert len(pids) == 1
    assert next(iter(pids))[1] == 0
    for run in wanted:
        train(run, Machine(runs=tmp_path / "alone", threads=1))
        assert digest(run.folder(tmp_path)) == digest(run.folder(tmp_path / "alone"))
        said = (tmp_path / f"{run.hash}.log").read_text()
        assert said.count("finished after") == 1
        assert f"seed {run.seed}" in said


def test_a_worker_ends_with_a_run_that_failed_or_was_stopped(given: forks.Forks, tmp_path: Path) -> None:
    bad, code = ended(given, dataclasses.replace(SMALL, rule="nothing"), tmp_path)
    assert code == 2
    long = dataclasses.replace(SMALL, model=NOISY, epochs=100_000)
    one = begun(given, long, tmp_path)
    assert one.pid != bad
    while not (long.folder(tmp_path) / "metrics.jsonl").exists():
        assert one.poll() is None
        time.sleep(0.01)
    one.send_signal(signal.SIGINT)
    one.wait()
    assert one.returncode == 128 + signal.SIGINT
    other, code = ended(given, SMALL, tmp_path)
    assert other not in (bad, one.pid)
    assert code == 0


def test_an_idle_worker_that_was_killed_gets_nothing_more(given: forks.Forks, tmp_path: Path) -> None:
    first, _ = ended(given, SMALL, tmp_path)
    os.kill(first, signal.SIGKILL)
    second, code = ended(given, dataclasses.replace(SMALL, seed=1), tmp_path)
    assert code in (0, -signal.SIGKILL), "it may die with the task in its hands, which is then told"
    assert ended(given, dataclasses.replace(SMALL, seed=2), tmp_path)[1] == 0
    assert code == 0 or second == first


def test_two_workers_at_once_and_the_end_of_them_all(given: forks.Forks, tmp_path: Path) -> None:
    long = [dataclasses.replace(SMALL, model=NOISY, epochs=100_000, seed=seed) for seed in range(2)]
    one, two = (begun(given, run, tmp_path, "--time-limit", "0.2s") for run in long)
    assert one.pid != two.pid
    one.wait()
    two.wait()
    assert (one.returncode, two.returncode) == (0, 0)
    given.close()
    for pid in (one.pid, two.pid):
        end = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
            assert time.monotonic() < end, "an idle worker outlives who forked it"
            time.sleep(0.02)


def test_a_run_that_ends_before_its_beginning_is_heard_has_ended(given: forks.Forks, tmp_path: Path) -> None:
    """As when the driver was suspended, or waited for a disk."""
    ended(given, SMALL, tmp_path)
    own = given.listen

    def late(patience: float = 0.0) -> bool:
        time.sleep(0.5 if patience else 0.0)
        return own(patience)

    given.listen = late  # type: ignore[method-assign]
    assert begun(given, SMALL, tmp_path).returncode == 0, "it had finished before"


def test_what_was_told_while_somebody_interrupted_is_not_lost(given: forks.Forks, tmp_path: Path) -> None:
    """A second Ctrl-C comes between two words; every run still has its end, and nobody waits for ever."""
    two = [begun(given, dataclasses.replace(SMALL, seed=seed), tmp_path) for seed in range(2)]
    own, heard = given._take, list[dict[str, int]]()

    def take(told: dict[str, int]) -> None:
        heard.append(told)
        own(told)
        if len(heard) == 1:
            raise KeyboardInterrupt

    given._take = take  # type: ignore[method-assign]
    time.sleep(5.0)  # both have ended, and both ends come in one piece
    with pytest.raises(KeyboardInterrupt):
        given.listen(60.0)
    for one in two:
        one.wait()
    assert [one.returncode for one in two] == [0, 0]
    assert len(heard) == 2


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The process that forks, which forks nothing: numbered workers at the other ends of sockets that are kept."""
    kept: list[tuple[forker.Worker, socket.socket]] = []

    class Parent(forker.Parent):
        def fork(self) -> forker.Worker:
            own, other = socket.socketpair()
            worker = self.workers[len(kept)] = forker.Worker(len(kept), own, self.loaded)
            kept.append((worker, other))
            self.events.register(own, selectors.EVENT_READ, worker)
            return worker

        def begun(self, data: str) -> int:
            """Which worker gets a task on ``data``."""
            before = {worker.pid: worker.runs for worker, _ in kept}
            self.hand_out({"data": data, "folder": None})
            return next(worker.pid for worker, _ in kept if worker.runs > before.get(worker.pid, 0))

        def ended(self, pid: int) -> int:
            """The worker finishes its task."""
            worker, other = kept[pid]
            other.recv(1000)
            other.sendall(b".")
            self.hear(worker)
            return pid

        def run(self, data: str) -> int:
            """Which worker gets a task on ``data``, and finishes it at once."""
            return self.ended(self.begun(data))

    monkeypatch.setattr(forker, "_preload", lambda *_: None)
    monkeypatch.setattr(forker, "_tell", lambda **_: None)
    one = Parent()
    yield one
    one.events.close()
    for worker, other in kept:
        worker.link.close()
        other.close()


def test_a_worker_gets_only_what_was_loaded_before_it_was_forked(parent: Any) -> None:
    assert [parent.run(data) for data in ("a", "a", "b", "a", "b", "c")] == [0, 0, 1, 1, 1, 2]


def test_a_worker_that_was_busy_when_data_was_loaded_does_not_have_it(parent: Any) -> None:
    both = [parent.begun("a"), parent.begun("b")]
    assert [parent.ended(pid) for pid in both] == [0, 1]
    assert parent.run("b") == 1
    assert parent.run("a") == 0


def test_a_worker_is_not_for_ever(parent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forker, "_RUNS", 3)
    assert [parent.run("a") for _ in range(7)] == [0, 0, 0, 1, 1, 1, 2]
