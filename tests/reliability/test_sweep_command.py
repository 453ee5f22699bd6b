"""``equipoise sweep``: a failure here is a run that nobody asked for, one that is missing, or a draw that moves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.cli import main
from equipoise.errors import InputError
from equipoise.sweep.search import read_grid, read_space
from equipoise.train import Run

SMALL = ["--epochs", "1", "--train-limit", "60", "--test-limit", "20", "--alignment-batch", "0"]
AXES = ["--grid", "optimizer=sgd,adam", "--draw", "lr=log:1e-4..1e-1", "width=int:4..9", "--draws", "2"]
MODEL = ["--model", "mlp:64-{width}-10"]


def say(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as exit_:
        code = int(str(exit_.code))
    return code, *capsys.readouterr()


def test_values_are_read_with_commas_or_with_bars() -> None:
    given: dict[str, Any] = {"lr": "0.1, 1", "model": "mlp:64-9-10,norm=layer|mlp:64-9-10", "sign": True, "n": [1, 2]}
    model = ["mlp:64-9-10,norm=layer", "mlp:64-9-10"]
    assert read_grid(given) == {"lr": [0.1, 1], "model": model, "sign": [True], "n": [1, 2]}
    assert read_space({"lr": "log:1e-4..1"}) == read_space({"lr": "log:1e-4:1"})
    assert read_space({"options.sign": True})["options.sign"].at(0) is True
    with pytest.raises(InputError, match="no value for 'lr'"):
        read_grid({"lr": ","})


def test_the_grid_and_shared_draws_are_run_counted_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    command = ["sweep", *MODEL, *AXES, *SMALL, "--seeds", 2, "--runs", runs]
    code, out, _ = say(capsys, *command, "--count")
    assert code == 0
    assert not runs.exists(), "counting runs nothing"
    head, drawn, values, stands = out.splitlines()
    assert re.fullmatch(r"8 runs \([0-9a-f]{12}\): 2 model, 2 optimizer, 2 lr, .*2 seed", head)
    assert "lr LogUniform 0.0001 to 0.1" in drawn
    assert "2 draws of seed 0" in drawn
    assert values == "grid: optimizer sgd, adam"
    assert stands == f"all, in '{runs}': 8 runs, 0 done"
    code, _, err = say(capsys, *command, "--part", "1/2")
    assert code == 0
    assert head in err
    assert say(capsys, *command, "--count")[1].splitlines()[-1].startswith(f"all, in '{runs}': 8 runs, 4 done")
    assert (
        say(capsys, *command, "--part", "2/2", "--count")[1].splitlines()[-1]
        == f"part 2/2, in '{runs}': 4 runs, 0 done"
    )
    assert say(capsys, *command)[0] == 0
    rows = sweep.collect(runs)
    assert len(rows) == 8
    pairs = {(row["model"], row["lr"]) for row in rows}
    assert len(pairs) == 2, "each draw meets both optimisers and both seeds"
    assert {(row["optimizer"], row["seed"]) for row in rows} == {("sgd", 0), ("sgd", 1), ("adam", 0), ("adam", 1)}
    assert {row["experiment"] for row in rows} == {"sweep"}
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("summary.json")}
    assert "8 of them finished before" in say(capsys, *command)[2]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_spec_or_an_experiment_is_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "mine.json"
    spec.write_text(Run(experiment="mine", rule="dfa", model="mlp:64-8-10").to_json())
    where = ["--runs", tmp_path / "runs", "--count"]
    code, out, _ = say(capsys, "sweep", spec, "--epochs", "2", "--grid", "options.hidden_scale=1,2", *where)
    assert (code, out.splitlines()[0].split(" (")[0]) == (0, "2 runs")
    code, out, _ = say(capsys, "sweep", "feedback/mnist", "--preset", "smoke", "--grid", "batch_size=32,64", *where)
    assert code == 0
    count = int(out.split()[0])
    assert count > 2
    assert "2 batch_size" in out
    assert count % 2 == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--grid", "lrr=1"], "'lrr' is no field"),
        (["--grid", "lr=0.1", "--draw", "lr=log:1e-3..1"], "'lr' is in two lists"),
        (["--grid", "rule=bp,fb"], "unknown rule"),
        (["--grid", "seed=1,2", "--seeds", "2"], "'seed' is in two lists"),
        (["--draw", "lr=log:0..1"], "begin above 0"),
        (["--draw", "lr=log:0.1..1", "--draws", "0"], "give at least 1"),
        (["--part", "3/2"], "no part 3/2"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_in_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = say(capsys, "sweep", *SMALL, *words, "--count", "--runs", tmp_path)
    assert (code, told in err, err.count("\n")) == (2, True, 1), err


def test_what_a_sweep_is_of_is_said_when_it_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "sweep")[:2][0] == 0
    assert "no spec file" in say(capsys, "sweep", "none.json")[2]
    assert "one spec file" in say(capsys, "sweep", "a.json", "b.json")[2]
    assert "unknown experiment" in say(capsys, "sweep", "feedbak/mnist")[2]
