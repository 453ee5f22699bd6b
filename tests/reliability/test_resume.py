"""Resume: a failure here hides a run whose result depends on when it was killed.

A real process is killed with ``kill -9`` at seeded random times, mid-epoch, mid-write or mid-evaluation, until
it finishes; its weights and its metrics must equal, bit for bit, those of a run that nobody touched.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from equipoise.train import Machine, Run, Summary, train
from equipoise.train import state as checkpoint
from reliability._sessions import NOISY, Launcher, Watched, curve, digest, stopped

BASE = Run(
    model=NOISY,
    rule="fa",
    optimizer="adam",
    lr=0.002,
    optimizer_options={"weight_decay": 1e-4},
    scheduler="step",
    scheduler_options={"step_size": 3, "gamma": 0.9},
    batch_size=24,
    select="validation",
    clip_norm=1.0,
    alignment_batch=32,
    measures=["norms", "activity"],
    whiten=0.1,
    seed=3,
    train_limit=400,
)


def killed_until_finished(launcher: Launcher, run: Run, runs: Path, *, kills: int, threads: int, longest: float) -> int:
    """Kill ``kills`` sessions at random moments of their training, then let the last one finish; real kills."""
    clock, folder, hits = random.Random(7), run.folder(runs), 0
    flags = ("--checkpoint-every", "0.05", "--threads", str(threads))
    for _ in range(kills):
        before = mark(folder)
        pid = launcher.start(run, runs, *flags)
        while mark(folder) == before:
            os.kill(pid, 0)
            time.sleep(0.005)
        time.sleep(clock.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        hits += launcher.wait() == -signal.SIGKILL
    launcher.start(run, runs, *flags)
    assert launcher.wait() == 0, launcher.said()
    return hits


def mark(folder: Path) -> int:
    """Changes when a session begins to train, because it rewrites the metrics first."""
    path = folder / "metrics.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def compare(launcher: Launcher, run: Run, tmp_path: Path, *, kills: int, threads: int, longest: float) -> None:
    (tmp_path / "killed").mkdir()
    hits = killed_until_finished(launcher, run, tmp_path / "killed", kills=kills, threads=threads, longest=longest)
    assert hits == kills, f"only {hits} of {kills} kills hit a living process; make the run longer"
    whole = train(run, Machine(runs=tmp_path / "whole", threads=threads))
    killed = Summary.read(run.folder(tmp_path / "killed"))
    assert (killed.steps, killed.selected_epoch) == (whole.steps, whole.selected_epoch)
    assert killed.threads == threads
    assert digest(run.folder(tmp_path / "killed")) == digest(run.folder(tmp_path / "whole"))
    assert curve(run.folder(tmp_path / "killed")) == curve(run.folder(tmp_path / "whole"))


def test_three_kills(launcher: Launcher, tmp_path: Path) -> None:
    run = Run.from_json(BASE.to_dict() | {"epochs": 60})
    compare(launcher, run, tmp_path, kills=3, threads=1, longest=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_twenty_kills(launcher: Launcher, tmp_path: Path, threads: int) -> None:
    run = Run.from_json(BASE.to_dict() | {"epochs": 400, "batch_size": 128, "model": "mlp:64-512-256-10"})
    compare(launcher, run, tmp_path, kills=20, threads=threads, longest=0.6)


@pytest.mark.parametrize("at", [1, 3])
def test_a_signal_at_an_epochs_end_changes_nothing(tmp_path: Path, at: int) -> None:
    run = Run.from_json(BASE.to_dict() | {"epochs": 4, "scheduler_options": {"step_size": 1}})
    folder = stopped(run, tmp_path / "stopped", at=at)
    seen = Watched()
    summary = train(run, Machine(runs=tmp_path / "stopped"), progress=seen)
    whole = train(run, Machine(runs=tmp_path / "whole"))
    assert summary.status == "finished"
    assert any("resumed at step" in note for note in seen.notes)
    assert digest(folder) == digest(run.folder(tmp_path / "whole"))
    assert curve(folder) == curve(run.folder(tmp_path / "whole"))
    assert (summary.selected_epoch, summary.metrics["lr"]) == (whole.selected_epoch, whole.metrics["lr"])


def test_lines_after_the_checkpoint_are_not_repeated(tmp_path: Path) -> None:
    run = Run.from_json(BASE.to_dict() | {"epochs": 5})
    folder = stopped(run, tmp_path, at=2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step": 999}\n{"epoch": 4, "st')
    train(run, Machine(runs=tmp_path))
    assert [row["epoch"] for row in curve(folder)] == [1, 2, 3, 4, 5]
    assert all(row["step"] < 999 for row in curve(folder))


def test_another_thread_count_is_noted(tmp_path: Path) -> None:
    run = Run.from_json(BASE.to_dict() | {"epochs": 2})
    folder = stopped(run, tmp_path, at=1)
    saved = checkpoint.load(folder)[0]
    assert saved is not None
    assert saved["conditions"]["threads"] == 1
    saved["conditions"]["threads"] = 2
    checkpoint.save(folder, saved)
    seen = Watched()
    assert train(run, Machine(runs=tmp_path), progress=seen).threads == 1
    assert any("threads was 2 and is 1" in note for note in seen.notes)


def test_a_finished_run_is_never_run_again(tmp_path: Path) -> None:
    run = Run(epochs=2, validation=0)
    first = train(run, Machine(runs=tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in run.folder(tmp_path).iterdir()}
    assert train(Run(epochs=2, validation=0, preset="quick"), Machine(runs=tmp_path)) == first
    assert {path.name: path.stat().st_mtime_ns for path in run.folder(tmp_path).iterdir()} == before
    assert train(run, Machine(runs=tmp_path, force=True)).seconds != first.seconds
    assert {path.name for path in run.folder(tmp_path).iterdir()} == set(before)
