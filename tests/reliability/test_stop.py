"""Stopping: a failure here hides lost work after Ctrl-C, a limit that is ignored, or a NaN saved over good weights."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.errors import RunError
from equipoise.sweep import worker as worker_module
from equipoise.train import Machine, Run, Summary, storage, train
from equipoise.train import state as checkpoint
from reliability._sessions import NOISY, TESTS, Launcher, Watched, digest

RUN = Run(model=NOISY, epochs=4, train_limit=300, scheduler="step", scheduler_options={"step_size": 1})
LONG = Run(model=NOISY, epochs=100_000)


@pytest.fixture(autouse=True)
def _handlers() -> Any:
    """Whatever happens in a run, the signals must be the caller's again."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    summary = train(RUN, Machine(runs=tmp_path, checkpoint_every=1000), progress=Watched(2, number))
    folder = RUN.folder(tmp_path)
    assert (summary.status, summary.cause, summary.epoch) == ("stopped", number.name, 2)
    assert f"equipoise run --spec {folder}/spec.json --runs {tmp_path}" in summary.message
    assert Summary.read(folder) == summary
    assert checkpoint.load(folder)[0] is not None
    assert worker_module.exit_code(summary) == 128 + number
    assert not (folder / "weights.safetensors").exists()
    assert train(RUN, Machine(runs=tmp_path)).status == "finished"
    train(RUN, Machine(runs=tmp_path / "whole"))
    assert digest(folder) == digest(RUN.folder(tmp_path / "whole"))


def test_a_second_ctrl_c_aborts_at_once(tmp_path: Path) -> None:
    class Impatient(Watched):
        def epoch(self, metrics: Mapping[str, Any]) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(RUN, Machine(runs=tmp_path), progress=Impatient())
    assert not checkpoint.exists(RUN.folder(tmp_path))
    assert train(RUN, Machine(runs=tmp_path)).status == "finished"


def test_ctrl_c_on_a_real_process(launcher: Launcher, tmp_path: Path) -> None:
    """The command that it prints goes on, pasted as it stands into a shell, from a folder with an odd name."""
    runs = tmp_path / "my runs ü"
    runs.mkdir()
    pid = launcher.start(LONG, runs)
    metrics = LONG.folder(runs) / "metrics.jsonl"
    while not metrics.exists() or not metrics.stat().st_size:
        os.kill(pid, 0)
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert launcher.wait() == 130, launcher.said()
    summary = Summary.read(LONG.folder(runs))
    assert (summary.status, summary.steps) == ("stopped", checkpoint.load(LONG.folder(runs))[0]["step"])  # type: ignore[index]
    command = launcher.said().splitlines()[-1].partition("go on with: ")[2]
    done = subprocess.run(
        f"{command} --time-limit 0.3s", shell=True, cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"resumed at step {summary.steps} of" in done.stderr


def test_the_time_limit_stops_cleanly(tmp_path: Path) -> None:
    first = train(LONG, Machine(runs=tmp_path, time_limit=0.3))
    again = train(LONG, Machine(runs=tmp_path, time_limit=0.3))
    assert (first.status, first.cause) == ("stopped", "time limit")
    assert again.steps > first.steps > 0
    assert again.seconds > first.seconds
    assert worker_module.exit_code(again) == 0


def test_a_limit_during_an_evaluation_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop falls between the last step of an epoch and its measurements."""
    from equipoise.train import evaluate

    whole = evaluate.evaluate
    calls = []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return whole(*args, **options)

    monkeypatch.setattr(evaluate, "evaluate", interrupted)
    summary = train(RUN, Machine(runs=tmp_path))
    assert (summary.status, summary.epoch, summary.steps) == ("stopped", 0, 5)
    assert train(RUN, Machine(runs=tmp_path)).status == "finished"
    train(RUN, Machine(runs=tmp_path / "whole"))
    assert digest(RUN.folder(tmp_path)) == digest(RUN.folder(tmp_path / "whole"))


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    run = Run(model="reliability._nets:Explodes", epochs=3, train_limit=320, validation=0, batch_size=16)
    with pytest.raises(RunError, match="the loss is not finite at step 30") as caught:
        train(run, Machine(runs=tmp_path, checkpoint_every=0))
    folder = run.folder(tmp_path)
    summary = Summary.read(folder)
    assert (summary.status, summary.message, summary.epoch) == ("failed", str(caught.value), 1)
    saved = checkpoint.load(folder)[0]
    assert saved is not None
    assert saved["step"] == 29
    assert all(bool(torch.isfinite(weight).all()) for weight in saved["model"].values())


def test_bad_weights_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a step is finite but the step ruins the weights, as an infinite gradient does."""
    whole, steps = torch.optim.SGD.step, []

    def ruin(self: torch.optim.SGD, *args: Any) -> Any:
        steps.append(1)
        if len(steps) == 8:
            self.param_groups[0]["params"][0].grad.fill_(float("inf"))
        return whole(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", ruin)
    with pytest.raises(RunError, match="the weights are not finite after step 8"):
        train(RUN, Machine(runs=tmp_path, checkpoint_every=0))
    saved = checkpoint.load(RUN.folder(tmp_path))[0]
    assert saved is not None
    assert saved["step"] == 7


def test_what_fails_at_bad_weights_is_told_as_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decomposition of infinite weights fails before anybody has looked at the next loss."""

    def ruin(self: torch.optim.SGD, *_: Any) -> Any:
        weight = self.param_groups[0]["params"][0]
        weight.data.fill_(torch.inf)
        torch.linalg.svd(weight.data)

    monkeypatch.setattr(torch.optim.SGD, "step", ruin)
    with pytest.raises(RunError, match="the weights are not finite after step 1") as caught:
        train(RUN, Machine(runs=tmp_path))
    assert isinstance(caught.value.__cause__, torch.linalg.LinAlgError)
    assert "(it said LinAlgError: linalg.svd" in str(caught.value).replace("_LinAlgError", "LinAlgError")
    assert Summary.read(RUN.folder(tmp_path)).diverged


@pytest.mark.parametrize("bad", [False, True])
def test_what_fails_at_good_weights_and_what_wants_memory_is_told_as_it_is(
    bad: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = MemoryError if bad else ArithmeticError

    def fails(self: torch.optim.SGD, *_: Any) -> Any:
        if bad:
            self.param_groups[0]["params"][0].data.fill_(torch.nan)
        raise kind("mine")

    monkeypatch.setattr(torch.optim.SGD, "step", fails)
    with pytest.raises(kind, match="mine"):
        train(RUN, Machine(runs=tmp_path))


def test_bad_weights_are_never_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very last step ruins them, long before a checkpoint is due."""
    whole, last = torch.optim.SGD.step, 2 * 5

    def ruin(self: torch.optim.SGD, *args: Any) -> Any:
        nonlocal last
        last -= 1
        if last == 0:
            self.param_groups[0]["params"][0].grad.fill_(float("inf"))
        return whole(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", ruin)
    run = Run(epochs=2, train_limit=300)
    with pytest.raises(RunError, match="the weights are not finite after step 10"):
        train(run, Machine(runs=tmp_path))
    assert not (run.folder(tmp_path) / "weights.safetensors").exists()


def test_a_signal_in_the_last_epoch_is_not_swallowed(tmp_path: Path) -> None:
    """The run is done, so it finishes; but whoever started it still has to hear of Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        train(RUN, Machine(runs=tmp_path), progress=Watched(RUN.epochs))
    assert Summary.read(RUN.folder(tmp_path)).status == "finished"


def test_a_devices_first_bad_step_is_remembered() -> None:
    """On an accelerator nothing waits for the loss; the step has to be right when it is asked for."""
    from equipoise.train.totals import NotFinite, Totals

    totals = Totals(torch.device("cpu"))
    totals._immediate = False
    output, y = torch.eye(3), torch.arange(3)
    for step, loss in enumerate([1.0, float("inf"), float("nan"), 2.0], start=1):
        totals.add(torch.tensor(loss), output, y, step=step)
    with pytest.raises(NotFinite, match="step 2;"):
        totals.check()


def test_an_error_in_the_model_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by the user's code")

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", broken)
    run = Run(epochs=1, clip_norm=1.0)
    with pytest.raises(ZeroDivisionError):
        train(run, Machine(runs=tmp_path))
    assert Summary.read(run.folder(tmp_path)).message == "ZeroDivisionError: by the user's code"
    monkeypatch.undo()
    assert train(run, Machine(runs=tmp_path)).status == "finished"


def test_outside_the_main_thread_runs_still_train(tmp_path: Path) -> None:
    found: list[Summary] = []
    thread = threading.Thread(target=lambda: found.append(train(Run(epochs=1), Machine(runs=tmp_path))))
    thread.start()
    thread.join()
    assert found[0].status == "finished"
    assert storage.read_lines(Run(epochs=1).folder(tmp_path) / "metrics.jsonl")
