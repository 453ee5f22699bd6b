"""Runs that train together leave what solo runs leave; a failure here loses a run, or mixes two up."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from equipoise import population, sweep
from equipoise.population import Population
from equipoise.sweep.progress import Within
from equipoise.train import Machine, Run, Summary, read_weights, storage, train
from reliability._sessions import Kept

BASE = {"model": "mlp:64-8-10", "precision": "float64", "epochs": 3, "train_limit": 60, "test_limit": 30}
FILES = {".lock", "metrics.jsonl", "spec.json", "summary.json", "weights.safetensors"}


def runs(count: int = 2, **fields: Any) -> list[Run]:
    return [Run(**{**BASE, "batch_size": 16, "seed": seed, "lr": 0.1 / (seed + 1), **fields}) for seed in range(count)]


def apart(run: Run, one: Path, two: Path) -> float:
    a, b = (read_weights(run.folder(root) / "weights.safetensors") for root in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def interrupted(monkeypatch: pytest.MonkeyPatch, *, at: int, by: Any) -> None:
    """Let ``by`` happen at the first step number ``at`` of a population."""
    own, done = Population.step, list[int]()

    def step(self: Population) -> Any:
        if self.done == at and not done:
            done.append(at)
            by()
        return own(self)

    monkeypatch.setattr(Population, "step", step)


def test_folders_are_those_of_solo_runs(tmp_path: Path) -> None:
    shared = {"top_k": 2, "train_set": True, "alignment_batch": 8, "measures": ["norms"], "validation": 0.2}
    wider = {"model": "mlp:64-11-10", "select": "validation"}
    wanted = [*runs(1, rule="fa", **shared), *runs(1, rule="fa", lr=0.3, **wider, **shared)]
    together, alone = tmp_path / "together", tmp_path / "alone"
    found = population.train(wanted, Machine(runs=together))
    for run, summary in zip(wanted, found, strict=True):
        solo = train(run, Machine(runs=alone))
        folders = [run.folder(root) for root in (together, alone)]
        assert [{path.name for path in folder.iterdir()} for folder in folders] == [FILES, FILES]
        assert storage.read_text(folders[0] / "spec.json") == storage.read_text(folders[1] / "spec.json")
        rows, others = (storage.read_lines(folder / "metrics.jsonl") for folder in folders)
        assert [list(row) for row in rows] == [list(row) for row in others]
        for row, other in zip(rows, others, strict=True):
            assert {k: v for k, v in row.items() if k != "seconds"} == pytest.approx(
                {k: v for k, v in other.items() if k != "seconds"}, rel=1e-9, abs=1e-10
            )
        assert Summary.read(folders[0]) == summary
        for field in ("status", "steps", "epoch", "selected_epoch", "parameters", "threads", "note"):
            assert getattr(summary, field) == getattr(solo, field)
        assert apart(run, together, alone) < 1e-10
    stamp = (wanted[0].folder(together) / "summary.json").stat().st_mtime_ns
    assert population.train(wanted, Machine(runs=together)) == found
    assert (wanted[0].folder(together) / "summary.json").stat().st_mtime_ns == stamp


def test_an_interrupted_population_goes_on_together_or_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adam = {"optimizer": "adam", "optimizer_options": {}, "lr": 0.003}
    wanted = [*runs(1, model="mlp:64-5-10", **adam), *runs(1, seed=1, **adam)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    population.train(wanted, Machine(runs=whole))
    interrupted(monkeypatch, at=6, by=lambda: os.kill(os.getpid(), signal.SIGINT))
    found = population.train(wanted, Machine(runs=cut))
    assert [(summary.status, summary.cause, summary.steps) for summary in found] == [("stopped", "SIGINT", 7)] * 2
    assert "go on with" in found[0].message
    (last,) = (train(run, Machine(runs=cut)) for run in wanted[1:])
    assert last.status == "finished"
    found = population.train(wanted, Machine(runs=cut))
    assert [summary.status for summary in found] == ["finished"] * 2
    assert max(apart(run, whole, cut) for run in wanted) < 1e-10
    history = storage.read_lines(wanted[0].folder(cut) / "metrics.jsonl")
    assert [row["epoch"] for row in history] == [1, 2, 3]


def test_a_crash_costs_what_came_after_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, whole, cut = runs(), tmp_path / "whole", tmp_path / "cut"
    population.train(wanted, Machine(runs=whole))

    def crash() -> None:
        raise MemoryError

    interrupted(monkeypatch, at=5, by=crash)
    with pytest.raises(MemoryError):
        population.train(wanted, Machine(runs=cut, checkpoint_every=0))
    begun: list[int] = []
    own = Population.step
    monkeypatch.setattr(Population, "step", lambda self: (begun.append(self.done), own(self))[1])
    assert all(one.status == "finished" for one in population.train(wanted, Machine(runs=cut)))
    assert 0 < begun[0] <= 5
    assert max(apart(run, whole, cut) for run in wanted) == 0


def test_members_at_different_steps_train_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = runs(3)
    interrupted(monkeypatch, at=3, by=lambda: os.kill(os.getpid(), signal.SIGINT))
    population.train(wanted[:2], Machine(runs=tmp_path))
    assert [one.status for one in population.train(wanted, Machine(runs=tmp_path))] == ["finished"] * 3
    population.train(wanted, Machine(runs=tmp_path / "whole"))
    assert max(apart(run, tmp_path, tmp_path / "whole") for run in wanted) < 1e-10


def test_a_member_that_diverges_fails_alone(tmp_path: Path) -> None:
    wanted = [*runs(2, loss="mse", lr=0.01), *runs(1, loss="mse", lr=1e30)]
    together = tmp_path / "together"
    found = population.train(wanted, Machine(runs=together))
    assert [summary.status for summary in found] == ["finished", "finished", "failed"]
    with pytest.raises(Exception, match="not finite at step") as solo:
        train(wanted[2], Machine(runs=tmp_path / "alone"))
    assert found[2].message == str(solo.value)
    alone = Summary.read(wanted[2].folder(tmp_path / "alone"))
    assert (found[2].steps, found[2].epoch) == (alone.steps, alone.epoch)
    assert Summary.read(wanted[2].folder(together)) == found[2]
    assert [row["lr"] for row in sweep.diverged(together)] == [1e30]


def test_the_executor_trains_together_what_it_can_and_the_rest_alone(tmp_path: Path) -> None:
    wanted = [
        *runs(2),
        *runs(1, model="mlp:64-6-10"),
        *runs(2, optimizer="rmsprop", optimizer_options={}, lr=0.001),
        *runs(2, model="mlp:63-8-10"),
    ]
    kept = Kept()
    found = sweep.execute(wanted, Machine(runs=tmp_path), executor="population", progress=kept)
    assert [summary.hash for summary in found] == [run.hash for run in wanted]
    assert [summary.status for summary in found] == ["finished"] * 5 + ["failed"] * 2
    assert "does not take a batch" in found[-1].message
    assert any("one by one" in note and "(optimizer)" in note for note in kept.notes)
    assert found[0].seconds > 0


def test_widths_that_cannot_share_a_population_have_one_each(tmp_path: Path) -> None:
    """PEPITA with centred differences takes means over units, padded or not."""
    centred = {"rule": "pepita", "options": {"center": "units"}, "lr": 0.01, "epochs": 1}
    wanted = [*runs(2, **centred), *runs(2, model="mlp:64-6-10", **centred)]
    kept = Kept()
    found = sweep.execute(wanted, Machine(runs=tmp_path), executor="population", progress=kept)
    assert [summary.status for summary in found] == ["finished"] * 4
    (note,) = [note for note in kept.notes if "trained" in note]
    assert "width by width, in 2 groups" in note
    assert "(widths)" in note


def test_ctrl_c_ends_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [*runs(2), *runs(2, rule="fa")]
    interrupted(monkeypatch, at=1, by=lambda: os.kill(os.getpid(), signal.SIGINT))
    found = sweep.execute(wanted, Machine(runs=tmp_path), executor="population")
    assert [(summary.status, summary.cause) for summary in found] == [("stopped", "SIGINT")] * 4
    assert [summary.message == "not started" for summary in found] == [False, False, True, True]


def test_a_population_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.population.training._REPORT_EVERY", 0.0)
    kept = Kept()
    sweep.execute(runs(3), Machine(runs=tmp_path), executor="population", progress=kept)
    steps = [words for words in kept.words if ", step " in words]
    assert steps[0].startswith("bp, seed 0 and 2 more, step 1/")
    assert " more  loss " in steps[-1]
    epochs = [words for words in kept.words if ", epoch " in words]
    assert [words.split("epoch ")[1][:3] for words in epochs] == ["1/3", "2/3", "3/3"]
    mean = sum(Summary.read(run.folder(tmp_path)).metrics["test_accuracy"] for run in runs(3)) / 3
    assert f"test {mean:.1%}" in epochs[-1]


def test_a_run_of_a_sweep_says_its_steps_and_the_time_that_it_needs(tmp_path: Path) -> None:
    kept = Kept()
    within = Within(kept)
    within.start(runs(1)[0], 100)
    within.advance(20, 0.5)
    within.advance(60, 0.25)
    assert kept.words[0] == "bp, seed 0, step 20/100  loss 0.5000"
    assert kept.words[1].startswith("bp, seed 0, step 60/100, ")
    assert kept.words[1].endswith(" s more  loss 0.2500")
