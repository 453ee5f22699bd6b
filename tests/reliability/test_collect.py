"""Reading results back: a failure here hides a number in a table that no run measured."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise import report, sweep
from equipoise.errors import StorageError
from equipoise.train import Machine, Run, Summary, train
from reliability._sessions import stopped

RUN = Run(epochs=2, train_limit=200, rule="fa", options={"local_weight": 0.5}, alignment_batch=16)


def test_a_row_holds_the_spec_the_conditions_and_the_selected_metrics(tmp_path: Path) -> None:
    ruin = {"scheduler": "exponential", "scheduler_options": {"gamma": 8.0}, "epochs": 5, "train_limit": 300}
    run = Run.from_json(RUN.to_dict() | {"select": "validation", "experiment": "paper/table"} | ruin)
    summary = train(run, Machine(runs=tmp_path))
    assert summary.selected["test_accuracy"] != summary.metrics["test_accuracy"]
    (row,) = sweep.collect(tmp_path)
    assert (row["experiment"], row["rule"], row["options.local_weight"]) == ("paper/table", "fa", 0.5)
    assert (row["hash"], row["threads"], row["commit"]) == (run.hash, 1, summary.commit)
    assert row["test_accuracy"] == summary.selected["test_accuracy"]
    assert row["angle"] == summary.selected["angle"]
    assert (row["lr"], row["seconds"]) == (0.1, summary.seconds)
    assert sweep.histories(tmp_path, "paper/table")[run.hash][-1] == summary.metrics
    assert sweep.collect(tmp_path, experiment="train") == []
    assert sweep.histories(tmp_path, "train") == {}
    assert sweep.collect(tmp_path / "none") == []


def test_damaged_folders_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = [Run.from_json(RUN.to_dict() | {"seed": seed}) for seed in range(5)]
    folders = [run.folder(tmp_path) for run in runs]
    for run in runs:
        train(run, Machine(runs=tmp_path))
    (folders[0] / "summary.json").write_text((folders[0] / "summary.json").read_text()[:-20])
    (folders[1] / "spec.json").write_text(runs[1].to_json().replace('"lr": 0.1', '"lr": 0.2'))
    (folders[2] / "spec.json").unlink()
    (folders[3] / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    stopped(Run.from_json(RUN.to_dict() | {"seed": 9}), tmp_path, at=1)
    problems: list[str] = []
    rows = sweep.collect(tmp_path, problems=problems)
    assert [row["seed"] for row in rows] == [3, 4]
    assert len(problems) == 3
    for folder, words in zip(folders[:3], ("not valid JSON", "it was edited", "No such file"), strict=True):
        assert any(str(folder) in line and words in line for line in problems), words
    problems.clear()
    assert set(sweep.histories(tmp_path, problems=problems)) == {runs[4].hash}
    assert len(problems) == 4
    with caplog.at_level(logging.WARNING, "equipoise"):
        sweep.collect(tmp_path)
    assert len(caplog.records) == 3


def ended_as(run: Run, folder: Path, status: str) -> None:
    run.folder(folder).mkdir(parents=True)
    (run.folder(folder) / "spec.json").write_text(run.to_json())
    message = "the loss is not finite at step 3" if status == "failed" else ""
    Summary(status=status, hash=run.hash, message=message).write(run.folder(folder))


def test_a_run_that_diverged_is_one_row_wherever_it_lies(tmp_path: Path) -> None:
    """Two machines diverged alike; of another run one copy diverged and one finished, which is the one that counts."""
    lost, mixed = (Run(seed=seed) for seed in range(2))
    for part, run, status in (
        ("a", lost, "failed"),
        ("b", lost, "failed"),
        ("a", mixed, "failed"),
        ("b", mixed, "finished"),
    ):
        ended_as(run, tmp_path / part, status)
    assert [row["hash"] for row in sweep.diverged(tmp_path)] == [lost.hash]
    assert [row["hash"] for row in sweep.collect(tmp_path)] == [mixed.hash]


def test_a_single_test_image_is_no_test(tmp_path: Path) -> None:
    """What tries settings sees one: its "accuracy" of 0 or 100 % is shown nowhere."""
    for seed, limit in ((0, 1), (1, 50)):
        train(Run(epochs=1, train_limit=100, test_limit=limit, seed=seed), Machine(runs=tmp_path))
    one, many = sweep.collect(tmp_path)
    assert not [name for name in one if name.startswith("test_") and name != "test_limit"]
    assert one["validation_accuracy"] > 0
    assert many["test_accuracy"] > 0
    assert "test_accuracy" not in sweep.histories(tmp_path)[one["hash"]][0]
    assert "validation accuracy, %" in report.outcome_table([one]).columns
    assert "test accuracy, %" in report.outcome_table([many]).columns


def test_the_order_of_rows_is_that_of_the_specs(tmp_path: Path) -> None:
    for seed in (10, 2, 1):
        train(Run(epochs=1, train_limit=100, seed=seed), Machine(runs=tmp_path))
    rows = sweep.collect(tmp_path)
    assert [row["seed"] for row in rows] == [1, 2, 10]
    sweep.write_csv(rows[::-1], tmp_path / "a.csv")
    sweep.write_csv(rows, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["experiment", "version", "model"]
    assert header[-6:] == sorted(header[-6:])
    assert [row["seed"] for row in sweep.read_csv(tmp_path / "a.csv")] == [1, 2, 10]
    assert sorted(sweep.read_csv(tmp_path / "a.csv"), key=lambda row: row["seed"]) == [
        {**row, "clip_norm": None} for row in rows
    ]


cells = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(["123456789012", "1234e5678901", "nan", "true", "[1]", '"', "1_000", " 1", "a\r\nb"])
    | st.lists(st.integers(), max_size=2)
)


@given(st.lists(st.fixed_dictionaries({"rule": cells, "z": cells}), max_size=4))
def test_every_cell_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    sweep.write_csv(rows, path)
    again = [[row["rule"], row["z"]] for row in sweep.read_csv(path)]
    assert sorted(map(repr, again)) == sorted(repr([row["rule"], row["z"]]) for row in rows)


def test_a_ragged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(StorageError, match=r"row 3 of .* has 1 cells for 2 columns"):
        sweep.read_csv(path)
    with pytest.raises(StorageError, match="No such file"):
        sweep.read_csv(tmp_path / "none.csv")
    assert json.dumps(sweep.read_csv(Path("/dev/null"))) == "[]"
