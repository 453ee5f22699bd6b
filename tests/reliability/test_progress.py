"""Progress: a failure here hides a terminal left in disorder, or a log that does not say what happened."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from equipoise.errors import RunError
from equipoise.sweep import progress as sweep_progress
from equipoise.sweep.progress import duration
from equipoise.train import Machine, Run, Summary, progress, train
from reliability._sessions import stopped

RUN = Run(epochs=3, train_limit=200)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_say_what_happened(tmp_path: Path) -> None:
    said = io.StringIO()
    summary = train(RUN, Machine(runs=tmp_path), progress=progress.Lines(said, every=0))
    lines = said.getvalue().splitlines()
    assert lines[0] == f"train/{RUN.hash}: bp on digits, seed 0, 3 epochs, 9 steps"
    assert [line.split()[1] for line in lines[1:4]] == ["1/3", "2/3", "3/3"]
    assert f"test {summary.metrics['test_accuracy']:.1%}" in lines[3]
    assert lines[4].startswith("finished after")


def test_lines_are_rare_but_the_last_epoch_is_always_there(tmp_path: Path) -> None:
    said = io.StringIO()
    train(RUN, Machine(runs=tmp_path), progress=progress.Lines(said, every=1000))
    assert [line for line in said.getvalue().splitlines() if line.startswith("epoch 3/3")]
    assert "epoch 2/3" not in said.getvalue()


def test_a_resumed_and_a_failed_run_say_so(tmp_path: Path) -> None:
    said = io.StringIO()
    stopped(RUN, tmp_path, at=1)
    train(RUN, Machine(runs=tmp_path), progress=progress.Lines(said))
    assert "note: resumed at step" in said.getvalue()
    bad = Run(model="reliability._nets:Explodes", epochs=3, batch_size=16, train_limit=400)
    with pytest.raises(RunError):
        train(bad, Machine(runs=tmp_path), progress=progress.Lines(said))
    assert "failed after" in said.getvalue().splitlines()[-1]
    assert "not finite at step 30" in said.getvalue().splitlines()[-1]


def test_the_bar_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(RUN, tmp_path, at=1)
    train(RUN, Machine(runs=tmp_path), progress=progress.Bar())
    said = " ".join(capsys.readouterr().err.split())
    assert "note: resumed at step" in said
    assert "finished after" in said


def test_a_terminal_gets_a_bar_and_a_file_gets_lines() -> None:
    assert isinstance(progress.auto(Terminal()), progress.Bar)
    assert isinstance(progress.auto(io.StringIO()), progress.Lines)
    assert isinstance(sweep_progress.auto(Terminal()), sweep_progress.Bar)
    assert isinstance(sweep_progress.auto(io.StringIO()), sweep_progress.Lines)


def test_a_sweeps_bar_keeps_failures_on_screen(capsys: pytest.CaptureFixture[str]) -> None:
    bar = sweep_progress.Bar()
    bar.start(3, 1)
    bar.done(Summary(status="failed", hash="abc", message="it [broke]"), 2, 30.0)
    bar.done(Summary(status="finished", hash="def", seconds=2.0), 3, 0.0)
    bar.finish()
    said = capsys.readouterr().err
    assert "abc failed: it [broke]" in said
    assert "3/3" in said


def test_a_command_to_copy_is_never_broken_over_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    message = "go on with: equipoise run --spec " + "a/" * 60 + "spec.json --runs 'my runs'"
    bar = progress.Bar()
    bar.start(RUN, 9)
    bar.finish(Summary(status="stopped", hash="abc", message=message))
    sweeps = sweep_progress.Bar()
    sweeps.start(1, 0)
    sweeps.done(Summary(status="failed", hash="abc", message=message), 1, 0.0)
    sweeps.finish()
    assert capsys.readouterr().err.count(message) == 2


def test_a_narrow_terminal_takes_words_and_leaves_counts_and_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    words = "loss 0.5000  train 100.0%  validation 90.0%  test 90.0%  angle 33.0°"
    sweeps = sweep_progress.Bar()
    sweeps.start(120, 3)
    sweeps.within(f"shallow, seed 0, epoch 298/20000  {words}")
    sweeps.finish()
    assert "3/120 0:00:00 shallow" in capsys.readouterr().err
    bar = progress.Bar()
    bar.start(Run(data="tiny-imagenet", rule="shallow"), 1000)
    bar._bar.update(bar._task, completed=400, words=words)
    shown = bar._bar.console
    with shown.capture() as kept:
        shown.print(bar._bar.get_renderable())
    bar.finish(Summary(status="finished", hash="abc"))
    assert "40%" in kept.get()
    assert "loss" in kept.get()


def test_a_sweeps_lines_on_the_way_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    lines = sweep_progress.Lines(said)
    lines.start(2, 1)
    lines.within("fa, seed 0, epoch 1/9")
    monkeypatch.setattr(sweep_progress, "_EVERY", 0.0)
    lines.within("fa, seed 0, epoch 2/9")
    lines.done(Summary(status="stopped", hash="abc", steps=7, cause="SIGINT", message="go on with: x"), 1, 30.0)
    assert said.getvalue().splitlines() == [
        "2 runs, 1 of them finished before (--force trains them anew)",
        "fa, seed 0, epoch 2/9",
        "1/2 abc stopped: saved at step 7 (SIGINT)",
    ]


def test_missing_metrics_are_left_out() -> None:
    assert progress.describe({"test_accuracy": 0.5, "angle": None}) == "test 50.0%"
    assert progress.describe({}) == ""
    assert progress.describe({"angle": float("nan")}) == ""
    assert progress.describe({"angle": 0.0}) == "angle 0.0°"
    assert [duration(seconds) for seconds in (3, 89, 120, 6000)] == ["3 s", "89 s", "2 min", "1.7 h"]
