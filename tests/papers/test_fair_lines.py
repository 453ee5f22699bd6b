"""Lines of the fair comparisons: a failure here is one mean over two budgets, or a changed budget under the old name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.cli import main
from equipoise.cli import run as command
from equipoise.cli.stages import another_budget
from equipoise.papers.exhibits import Table
from equipoise.papers.fair.conditions import Cell
from equipoise.papers.fair.figures import EXHIBITS
from equipoise.papers.fair.lines import lines_of
from equipoise.train import Run, Summary, experiments


def row(name: str, seed: int = 0, *, width: int = 256, place: str = "dense-2", **fields: Any) -> dict[str, Any]:
    run = Cell("digits", place, name).on(Run(experiment="fair/rules", seed=seed, preset="quick", epochs=30), width)
    run = dataclasses.replace(run, **fields)
    return {**sweep.flat(run), "hash": run.hash, "test_accuracy": 0.5 + 0.1 * seed, "angle": 20.0 + seed}


def told(rows: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    return {line.label: [one["seed"] for one in members] for line, members in lines_of(rows).items()}


def test_no_line_has_two_budgets_or_two_rates() -> None:
    assert told([row("bp", 0), row("bp", 1), row("fa", lr=0.3)]) == {"BP": [0, 1], "FA": [0]}
    assert told([row("bp", 0, epochs=2), row("bp", 1)]) == {"BP, epochs=2": [0], "BP, epochs=30": [1]}
    assert told([row("bp", width=16), row("bp")]) == {"BP, width=16": [0], "BP, width=256": [0]}
    assert told([row("bp", lr=0.1), row("bp", lr=0.5)]) == {"BP, lr=0.1": [0], "BP, lr=0.5": [0]}
    assert told([row("bp", train_limit=9), row("fa")]) == {"BP, train_limit=9": [0], "FA, train_limit=None": [0]}
    assert told([row("bp"), row("bp", place="cnn")]) == {"BP": [0]}, "the convolutional network has no width to tell"


def test_a_line_is_compared_at_its_own_budget_and_few_seeds_are_said_to_be_few(tmp_path: Path) -> None:
    rows = [row("bp", seed) for seed in range(5)]
    rows += [row("bp", 0, epochs=2), row("shallow", 0, epochs=2), row("shallow", 0, epochs=5)]
    (table,) = [one for one in EXHIBITS["fair/rules"](rows, {}, tmp_path) if isinstance(one, Table)]
    lines = {str(line[2]): dict(zip(table.columns, line, strict=True)) for line in table.rows}
    less = "less the readout alone, points"
    assert lines["BP, epochs=2"][less] is not None
    assert lines["BP, epochs=30"][less] is None
    assert lines["BP, epochs=30"]["seeds"] == 5
    assert "fewer than 5" in str(lines["BP, epochs=2"]["seeds"])
    mean, sign, half = lines["BP, epochs=30"]["angle, °"]  # type: ignore[misc]
    assert (mean.value, sign) == (pytest.approx(22.0), "±")
    assert half.value == pytest.approx(2.776 * (2.5 / 5) ** 0.5, rel=1e-3), "Student's t with 4 degrees of freedom"


def test_another_tuning_is_another_budget() -> None:
    tried = [Run(rule=rule, lr=lr) for rule in ("bp", "fa") for lr in (0.1, 0.2)]
    assert not another_budget(tried, tried)
    assert not another_budget(tried[:2], tried), "one line less"
    assert another_budget(tried[::2], tried), "half the rates"
    assert another_budget([*tried, Run(lr=0.3)], tried)


@pytest.mark.parametrize(
    ("words", "tuning", "final"),
    [
        ([], "smoke", "smoke"),
        (["--methods", "bp"], "smoke", "smoke"),
        (["--networks", "dense-1"], "smoke", "smoke"),
        (["--data", "mnist"], "smoke", "smoke"),
        (["--networks", "dense-1", "--width", "16"], "smoke (changed)", "smoke (changed)"),
        (["--tune-epochs", "2"], "smoke (changed)", "smoke (changed)"),
        (["--optimisers", "adam"], "smoke (changed)", "smoke (changed)"),
        (["--epochs", "3"], "smoke", "smoke (changed)"),
    ],
)
def test_a_changed_tuning_has_another_name(
    words: list[str], tuning: str, final: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[str]] = {}

    def first(runs: Sequence[Run], where: Any, then: Sequence[Run]) -> tuple[list[Summary], Any, None]:
        asked["tuning"] = {run.preset for run in runs}
        return [Summary("finished", run.hash, metrics={"validation_accuracy": 0.5}) for run in runs], where, None

    def second(runs: Sequence[Run], where: Any) -> int:
        asked["final"] = {run.preset for run in runs}
        return 0

    monkeypatch.setattr(command, "first_stage", first)
    monkeypatch.setattr(command, "execute_and_show", second)
    assert main(["run", "fair/rules", "--preset", "smoke", *words, "--runs", str(tmp_path)]) == 0
    assert asked == {"tuning": {tuning}, "final": {final}}


def test_the_test_set_selects_no_epoch_of_a_fair_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert "fair/rules" in experiments
    assert main(["run", "fair/rules", "--protocol", "authors"]) == 2
    assert "leave out --protocol" in capsys.readouterr().err
