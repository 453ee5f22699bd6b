"""Sweeps: a failure here hides a run done twice, a dead worker that takes others with it, or rows that lie."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.errors import InputError
from equipoise.sweep import progress, worker
from equipoise.train import Machine, Run, Summary, storage, train
from equipoise.train import state as checkpoint
from reliability._sessions import TESTS, Kept, digest, stopped

SMALL = Run(epochs=1, train_limit=200)
LONG = "reliability._nets:noisy"


@pytest.fixture(autouse=True)
def _worker_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker without the rest of the command line, from the tests' folder."""
    monkeypatch.chdir(TESTS)
    command = (sys.executable, "-W", "error", "-m", "equipoise.sweep.worker")
    sweep.executors.register("test")(functools.partial(sweep.processes, command=command))
    yield
    sweep.executors.remove("test")


def seeds(count: int, **fields: Any) -> list[Run]:
    return [Run.from_json(SMALL.to_dict() | {"seed": seed} | fields) for seed in range(count)]


def test_local_runs_each_hash_once_and_in_the_order_given(tmp_path: Path) -> None:
    first, second = seeds(2)
    train(second, Machine(runs=tmp_path))
    kept = Kept()
    runs = [first, second, Run.from_json(first.to_dict() | {"preset": "quick"})]
    summaries = sweep.execute(runs, Machine(runs=tmp_path), progress=kept)
    assert [summary.hash for summary in summaries] == [run.hash for run in runs]
    assert {summary.status for summary in summaries} == {"finished"}
    assert [(name, count) for name, count, _ in kept.said] == [(first.hash, 2)]


def test_local_tells_how_far_a_run_is_and_that_it_goes_on(tmp_path: Path) -> None:
    run, kept = Run(epochs=3, train_limit=200), Kept()
    stopped(run, tmp_path, at=1)
    sweep.execute([run], Machine(runs=tmp_path), progress=kept)
    assert [words.partition("  ")[0] for words in kept.words] == ["bp, seed 0, epoch 2/3", "bp, seed 0, epoch 3/3"]
    assert kept.notes == ["bp, seed 0: resumed at step 3 of 9"]


def test_local_records_failures_and_goes_on(tmp_path: Path) -> None:
    runs = [
        Run(rule="nothing"),
        Run(model="reliability._nets:Explodes", epochs=2, batch_size=16, train_limit=400),
        Run(model="reliability._nets:Broken"),
        SMALL,
    ]
    (tmp_path / "train" / SMALL.hash).mkdir(parents=True)
    summaries = sweep.execute(runs, Machine(runs=tmp_path))
    assert [summary.status for summary in summaries] == ["failed", "failed", "failed", "finished"]
    assert "unknown rule" in summaries[0].message
    assert "not finite at step 30" in summaries[1].message
    assert "Broken" in summaries[2].message


def test_a_damaged_folder_fails_alone(tmp_path: Path) -> None:
    first, second = seeds(2)
    train(first, Machine(runs=tmp_path))
    (first.folder(tmp_path) / "summary.json").write_text("{")
    before = digest(first.folder(tmp_path))
    summaries = sweep.execute([first, second], Machine(runs=tmp_path))
    assert [summary.status for summary in summaries] == ["failed", "finished"]
    assert "--force" in summaries[0].message
    assert digest(first.folder(tmp_path)) == before


@pytest.mark.parametrize("lr", [0.1, 1e20])
def test_a_run_of_a_changed_preset_takes_the_name_of_the_preset_that_has_it(tmp_path: Path, lr: float) -> None:
    run = dataclasses.replace(SMALL, lr=lr, preset="quick (changed)")
    path = run.folder(tmp_path) / "spec.json"
    for name, kept in (("quick (changed)",) * 2, ("paper", "quick (changed)"), ("quick",) * 2, ("paper", "quick")):
        sweep.execute([dataclasses.replace(run, preset=name)], Machine(runs=tmp_path))
        assert Run.from_json(storage.read_text(path)).preset == kept


def test_a_finished_run_whose_spec_was_cut_has_it_again(tmp_path: Path) -> None:
    train(SMALL, Machine(runs=tmp_path))
    spec = SMALL.folder(tmp_path) / "spec.json"
    before = digest(SMALL.folder(tmp_path))
    for damage in (spec.read_text()[:-30], SMALL.to_json().replace('"lr": 0.1', '"lr": 0.2')):
        spec.write_text(damage)
        assert sweep.collect(tmp_path, problems=[]) == []
        assert sweep.execute([SMALL], Machine(runs=tmp_path))[0].status == "finished"
        assert spec.read_text() == SMALL.to_json()
        assert [row["hash"] for row in sweep.collect(tmp_path)] == [SMALL.hash]
    assert digest(SMALL.folder(tmp_path)) == before, "nothing was trained"
    other = Run.from_json(SMALL.to_dict() | {"seed": 5})
    other.folder(tmp_path).mkdir()
    Summary("finished", SMALL.hash).write(other.folder(tmp_path))  # a copy in the wrong place
    (found,) = sweep.execute([other], Machine(runs=tmp_path))
    assert (found.status, "of another run" in found.message) == ("failed", True)


def test_workers_that_are_not_used_are_said_to_be(tmp_path: Path) -> None:
    kept = Kept()
    sweep.execute([SMALL], Machine(runs=tmp_path), workers=8, progress=kept)
    assert kept.notes == ["the executor 'local' is one process and takes no --workers; '--executor processes' does"]


def test_a_tuning_run_says_nothing_of_its_one_test_image(tmp_path: Path) -> None:
    said = io.StringIO()
    run = Run.from_json(SMALL.to_dict() | {"test_limit": 1})
    sweep.execute([run], Machine(runs=tmp_path), progress=progress.Lines(said))
    assert "validation" in said.getvalue()
    assert "test" not in said.getvalue()


def when_training(folders: Sequence[Path], act: Any) -> threading.Thread:
    """Call ``act`` once every folder holds an epoch's metrics, or far too late, so that no test hangs."""

    def watch() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not all(
            (path := folder / "metrics.jsonl").exists() and path.stat().st_size for folder in folders
        ):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_processes_equal_local_whatever_happens_to_other_workers(tmp_path: Path) -> None:
    """One worker is killed, one is asked for nonsense, one trains: each gets the outcome that is its own."""
    good, endless, bad = SMALL, Run(model=LONG, epochs=100_000), Run(rule="nothing")

    def kill() -> None:
        owner = (endless.folder(tmp_path) / ".lock").read_text().split()[0]
        os.kill(int(owner), signal.SIGKILL)

    thread = when_training([endless.folder(tmp_path)], kill)
    said = io.StringIO()
    shown = progress.Lines(said)
    apart = sweep.execute([good, endless, bad], Machine(runs=tmp_path), executor="processes", workers=2, progress=shown)
    thread.join()
    assert [summary.status for summary in apart] == ["finished", "failed", "failed"]
    assert "killed by SIGKILL" in apart[1].message
    assert "worker.log" in apart[1].message
    (refused,) = sweep.execute([bad], Machine(runs=tmp_path / "local"))
    assert apart[2].message == refused.message
    (alone,) = sweep.execute([good], Machine(runs=tmp_path / "local"))
    assert digest(good.folder(tmp_path)) == digest(good.folder(tmp_path / "local"))
    assert apart[0].threads == alone.threads == 1
    assert "epoch 1/1" in (good.folder(tmp_path) / "worker.log").read_text()
    lines = said.getvalue().splitlines()
    assert lines[0] == "3 runs"
    assert [line.split()[0] for line in lines[1:]] == ["1/3", "2/3", "3/3"]
    assert "left" in lines[1]
    # The killed run goes on where it was.
    assert train(endless, Machine(runs=tmp_path, time_limit=0.1)).cause == "time limit"


def test_ctrl_c_reaches_all_workers_and_all_save(tmp_path: Path) -> None:
    runs = [Run(model=LONG, epochs=100_000, seed=seed) for seed in range(3)]
    folders = [run.folder(tmp_path) for run in runs[:2]]
    thread = when_training(folders, lambda: os.kill(os.getpid(), signal.SIGINT))
    summaries = sweep.execute(runs, Machine(runs=tmp_path), executor="test", workers=2)
    thread.join()
    assert [(summary.status, summary.cause) for summary in summaries] == [("stopped", "SIGINT")] * 3
    assert [summary.message for summary in summaries][2] == "not started"
    assert all(checkpoint.load(folder)[0] is not None for folder in folders)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_local_stops_after_ctrl_c(tmp_path: Path) -> None:
    runs = [Run(model=LONG, epochs=100_000), SMALL]
    folder = runs[0].folder(tmp_path)
    thread = when_training([folder], lambda: os.kill(os.getpid(), signal.SIGINT))
    summaries = sweep.execute(runs, Machine(runs=tmp_path))
    thread.join()
    assert [(summary.status, summary.cause) for summary in summaries] == [("stopped", "SIGINT")] * 2
    assert summaries[1].message == "not started"
    assert not SMALL.folder(tmp_path).exists()


def test_the_time_limit_is_the_sweeps(tmp_path: Path) -> None:
    runs = [Run(model=LONG, epochs=100_000, seed=seed) for seed in range(2)]
    summaries = sweep.execute(runs, Machine(runs=tmp_path, time_limit=0.3))
    assert [(summary.status, summary.cause) for summary in summaries] == [("stopped", "time limit")] * 2
    assert summaries[1].message == "not started"


def test_bad_requests() -> None:
    with pytest.raises(InputError, match="did you mean 'processes'"):
        sweep.execute([SMALL], executor="process")
    with pytest.raises(InputError, match="at least 1"):
        sweep.execute([SMALL], workers=0)
    assert sweep.execute([], Machine(runs="/proc/none")) == []


def test_a_workers_arguments(tmp_path: Path) -> None:
    """What ``Machine.arguments`` says has to come back as the same machine."""
    machine = Machine(runs=tmp_path, threads=1, time_limit=90.5, checkpoint_every=0, data_dir="d")
    given = worker.parser().parse_args(["--spec", "x", *machine.arguments()])
    assert worker.machine_of(given) == machine
    with pytest.raises(InputError, match="no spec file"):
        worker.main(["--spec", str(tmp_path / "none.json")])
    (tmp_path / "spec.json").write_text('{"epoch": 1}')
    with pytest.raises(InputError, match=r"did you mean 'epochs'.*spec\.json"):
        worker.main(["--spec", str(tmp_path / "spec.json")])
