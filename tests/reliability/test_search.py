"""``equipoise search``: equal trials, chosen on held-out images, never computed twice, the winner's spec reusable.

A failure here means that a method had more trials than another, or that the test set had a say.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.cli import main
from equipoise.errors import InputError
from equipoise.sweep import executors
from equipoise.sweep.sampling import Choice, LogUniform
from equipoise.sweep.search import SEED, read_space, search, trial
from equipoise.sweep.value import changed
from equipoise.train import Machine, Run, Summary
from reliability._sessions import Kept

PLAIN = Run(experiment="mine", model="mlp:64-8-10", epochs=1, train_limit=100)
SPACE = {"lr": LogUniform(1e-4, 1.0), "optimizer": Choice(("sgd", "adam"))}
Made = Callable[[Run], dict[str, float]]


@pytest.fixture
def pretend() -> Iterator[Callable[[Made], list[Run]]]:
    """An executor that trains nothing: its metrics are a function of the run; what it was asked for is kept."""
    asked: list[Run] = []
    made: list[Made] = []

    def one(run: Run) -> Summary:
        metrics = made[0](run)
        if metrics:
            return Summary("finished", run.hash, metrics=metrics)
        return Summary("failed", run.hash, message="the loss is not finite at step 3")

    @executors.register("pretend")
    def executor(runs: Sequence[Run], machine: Machine, workers: int) -> Iterator[Summary]:
        asked.extend(runs)
        for run in runs:
            yield one(run)

    def begin(function: Made) -> list[Run]:
        made[:] = [function]
        asked.clear()
        return asked

    yield begin
    executors.remove("pretend")


def test_a_space_is_read_from_text() -> None:
    space = read_space(
        {"lr": "log:1e-4:1", "options.scale": "uniform:0:2", "epochs": "int:1:3", "optimizer": "sgd|adam"}
    )
    assert space["lr"] == LogUniform(1e-4, 1.0)
    assert [space["epochs"].at(u) for u in (0.0, 0.5, 0.99)] == [1, 2, 3]
    assert read_space({"batch_size": "32|64"})["batch_size"] == Choice((32, 64))
    for wrong in ("log:1", "log:a:b", "int:1:2:3", "log:0:1", "log:1:0.1"):
        with pytest.raises(InputError):
            read_space({"lr": wrong})


def test_another_optimiser_brings_its_own_options() -> None:
    assert changed(PLAIN, {"optimizer": "adam", "lr": 0.01}).optimizer_options == {}
    back = changed(changed(PLAIN, {"optimizer": "adam"}), {"optimizer": "sgd"})
    assert back.optimizer_options == PLAIN.optimizer_options == {"momentum": 0.9}
    kept = dataclasses.replace(PLAIN, optimizer_options={"momentum": 0.5})
    assert changed(kept, {"lr": 0.2}).optimizer_options == {"momentum": 0.5}


def test_a_trial_holds_images_out_and_sees_one_test_image() -> None:
    run = trial(dataclasses.replace(PLAIN, validation=0.0), {"lr": 0.2})
    assert (run.validation, run.test_limit, run.lr, run.experiment) == (0.1, 1, 0.2, "search/mine")
    assert run.seed == PLAIN.seed + SEED, "the winner's own seed had no say in the choice"
    assert trial(dataclasses.replace(PLAIN, validation=0.3), {}).validation == 0.3
    with pytest.raises(InputError, match="test"):
        trial(dataclasses.replace(PLAIN, select="test"), {})


def test_draws_are_shared_by_all_methods_and_held_out_images_choose(pretend: Any, tmp_path: Path) -> None:
    rate = sweep.draws(4, SPACE, seed=5)[2]["lr"]
    asked = pretend(lambda run: {"validation_accuracy": 0.9 if run.lr == rate else 0.5, "test_accuracy": run.lr})
    methods = [PLAIN, dataclasses.replace(PLAIN, rule="fa")]
    found = search(methods, SPACE, 4, seed=5, machine=Machine(runs=tmp_path), executor="pretend")
    assert [run.rule for run in asked] == ["bp"] * 4 + ["fa"] * 4
    assert [run.lr for run in asked[:4]] == [run.lr for run in asked[4:]]
    assert [one.place for one in found] == [2, 2]
    assert {(one.winner.lr, one.winner.test_limit, one.winner.experiment) for one in found} == {(rate, None, "mine")}
    assert {one.winner.seed for one in found}.isdisjoint(run.seed for run in asked)


def test_what_diverged_is_last_and_an_edge_is_told(pretend: Any, tmp_path: Path) -> None:
    pretend(lambda run: {} if run.lr > 0.01 else {"validation_accuracy": run.lr})
    space = {"lr": LogUniform(1e-4, 1.0)}
    (found,) = search([PLAIN], space, 12, machine=Machine(runs=tmp_path), executor="pretend")
    rates = [one["lr"] for one in found.settings]
    assert found.winner.lr == max(rate for rate in rates if rate <= 0.01)
    assert found.whole
    assert found.edges(space) == []
    pretend(lambda run: {"validation_accuracy": 1 - run.lr / 2})
    (found,) = search([PLAIN], space, 12, machine=Machine(runs=tmp_path), executor="pretend")
    assert found.winner.lr == min(rates)
    assert found.edges(space) == ["lr"]


def test_a_run_that_diverged_before_is_not_trained_again(pretend: Any, tmp_path: Path) -> None:
    machine = Machine(runs=str(tmp_path))
    runs = [PLAIN, dataclasses.replace(PLAIN, lr=9.0)]
    folder = runs[1].folder(tmp_path)
    folder.mkdir(parents=True)
    Summary("failed", runs[1].hash, message="the loss is not finite at step 3").write(folder)
    asked = pretend(lambda run: {"validation_accuracy": 0.5})
    kept = Kept()
    found = sweep.execute(runs, machine, executor="pretend", progress=kept, workers=2)
    assert asked == [PLAIN]
    assert [one.status for one in found] == ["finished", "failed"]
    assert kept.notes == ["1 of 2 diverged before, and would again; --force trains them anew"]
    sweep.execute(runs, dataclasses.replace(machine, force=True), executor="pretend")
    assert asked[1:] == runs
    Summary("failed", runs[1].hash, message="the disk is full").write(folder)
    assert sweep.execute(runs[1:], machine, executor="pretend")[0].status == "finished"


def test_bad_searches_are_refused() -> None:
    for wrong in ({"sampler": "grid"}, {"trials": 0}, {"space": {}}, {"methods": []}):
        given: dict[str, Any] = {"methods": [PLAIN], "space": SPACE, "trials": 2, **wrong}
        with pytest.raises(InputError):
            search(given.pop("methods"), given.pop("space"), given.pop("trials"), **given)
    with pytest.raises(InputError, match="no field"):
        search([PLAIN], {"rate": LogUniform(0.1, 1.0)}, 2)


def test_optuna_climbs_and_asked_again_goes_the_same_way(pretend: Any, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    asked = pretend(lambda run: {"validation_accuracy": 1 - abs(run.lr - 0.03)})
    methods = [PLAIN, dataclasses.replace(PLAIN, rule="fa")]
    (found, other) = search(methods, SPACE, 14, sampler="optuna", machine=Machine(runs=tmp_path), executor="pretend")
    first = [run.hash for run in asked]
    assert len(found.outcomes) == len(other.outcomes) == 14
    late = [abs(one["lr"] - 0.03) for one in found.settings[10:]]
    assert min(late) < 0.1
    asked = pretend(lambda run: {"validation_accuracy": 1 - abs(run.lr - 0.03)})
    search(methods, SPACE, 14, sampler="optuna", machine=Machine(runs=tmp_path), executor="pretend")
    assert [run.hash for run in asked] == first
    assert [one["lr"] for one in found.settings] != [one["lr"] for one in other.settings]


def test_the_command_resumes_and_writes_specs_that_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(PLAIN.to_json())
    runs = tmp_path / "runs"
    command = [
        "search",
        str(spec),
        "--space",
        "lr=log:1e-3:1",
        "optimizer=sgd|adam",
        "--trials",
        "2",
        "--runs",
        str(runs),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("summary.json")}
    assert len(times) == 2
    (winner,) = runs.rglob("winners/*.json")
    assert str(winner) in said
    assert json.loads(winner.read_text())["experiment"] == "mine"
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(list(runs.rglob("summary.json"))) == 2
    for wrong in (
        ["search"],
        ["search", "--trials", "2"],
        ["search", "none.json"],
        ["search", str(spec), "--preset", "quick"],
    ):
        assert main(wrong) == (0 if wrong == ["search"] else 2)


def test_the_command_refuses_what_it_would_ignore_and_options_that_a_method_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, other = tmp_path / "plain.json", tmp_path / "other.json"
    plain.write_text(PLAIN.to_json())
    other.write_text(dataclasses.replace(PLAIN, rule="dfa", epochs=2).to_json())
    command = ["search", str(plain), str(other), "--trials", "1", "--runs", str(tmp_path / "runs")]
    for words, told in (
        (["--space", "lr=log:1e-3..1", "--seeds", "5"], "leave out --seeds"),
        (["--space", "lr=log:1e-3..1", "--part", "1/2"], "leave out --seeds and --part"),
        (["--space", "options.hidden_scale=log:0.1..1"], "hidden_scale"),
    ):
        assert main([*command, *words]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists(), "nothing was tried"
    assert main([*command, "--space", "lr=0.1|0.2", "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert "The methods differ in epochs" in " ".join(said.out.split())
    assert "test 0" not in said.err
    winners = [Run.from_json(path.read_text()) for path in (tmp_path / "runs").rglob("winners/*.json")]
    assert [run.seed for run in winners] == [3, 3]
    assert {row["seed"] for row in sweep.collect(tmp_path / "runs")} == {3 + SEED}
