"""What an experiment shows of its own: a failure here hides runs trained twice, listed twice, or averaged over settings.

Two experiments share runs: ``shared/owner`` has them, ``shared/reader`` reads those of one rule again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise import plots, sweep
from equipoise.cli import main, pages
from equipoise.errors import InputError
from equipoise.papers import Published, SideBySide
from equipoise.papers.exhibits import Exhibit, Figure, Histories, Note, Number, Row, Table
from equipoise.papers.picking import curve, fixed, mean_and_sd, named, per_preset, series
from equipoise.train import Experiment, Run, Summary, experiments

RUN = Run(experiment="shared/owner", model="mlp:64-8-10", epochs=2, train_limit=200, test_limit=64, version=3)


def read_again(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """A table and a figure of the reader's own, after a look at what it was given."""
    assert {row["rule"] for row in rows} <= {"fa", "dfa"}
    assert all(len(histories[str(row["hash"])]) == 2 for row in rows)
    assert folder.is_dir()
    fig, ax = plots.figure()
    ax.plot([0, 1], [0, 1])
    cells = [("mine", (Number(12.345678, "12.3"), Note("a remark"))), ("empty", None)]
    return [Figure("line", "A line of the reader's", fig), Table("A table of the reader's", ["a", "b"], cells)]


@pytest.fixture
def shared() -> Iterator[None]:
    owner = Experiment("shared/owner", 3, "Owner", "nowhere", {"smoke": SideBySide(RUN, rules=("bp", "fa"))})
    reader = Experiment(
        "shared/reader",
        7,
        "Reader",
        "nowhere",
        {"smoke": SideBySide(RUN, rules=("fa",))},
        rows=lambda row: row["experiment"] == "shared/owner" and row["rule"] == "fa",
        exhibits=read_again,
    )
    for one in (owner, reader):
        experiments.register(one.name)(one)
    yield
    for one in (owner, reader):
        experiments.remove(one.name)


def run(name: str, folder: Path) -> int:
    return main(["run", name, "--preset", "smoke", "--runs", str(folder)])


@pytest.mark.usefixtures("shared")
def test_a_shared_run_is_trained_once_with_the_version_of_the_experiment_that_it_names(tmp_path: Path) -> None:
    assert run("shared/reader", tmp_path) == 0
    (row,) = sweep.collect(tmp_path)
    assert (row["experiment"], row["version"], row["preset"]) == ("shared/owner", 3, "smoke")
    before = (tmp_path / "shared" / "owner" / row["hash"] / "summary.json").stat().st_mtime_ns
    assert run("shared/owner", tmp_path) == 0
    assert {r["rule"] for r in sweep.collect(tmp_path)} == {"bp", "fa"}
    assert (tmp_path / "shared" / "owner" / row["hash"] / "summary.json").stat().st_mtime_ns == before


@pytest.fixture
def both(shared: None, tmp_path: Path) -> Path:
    assert run("shared/owner", tmp_path) == 0
    return tmp_path


def cells_of(page: str) -> list[str]:
    """The hashes in the first column of every table of a page."""
    return re.findall(r'<th scope="row"[^>]*><code>([0-9a-f]{12})</code>', page)


def test_every_experiment_that_shows_a_run_has_a_section_and_the_run_is_listed_once(both: Path) -> None:
    assert main(["report", str(both), "--csv", str(both / "csv"), "--figures", str(both / "figures")]) == 0
    page = (both / "report.html").read_text()
    assert "Finished runs: 2. Experiments: 2." in page
    assert "shared/owner: Owner" in page
    assert "shared/reader: Reader" in page
    assert "Runs that are listed under <code>shared/owner</code> are shown here too." in page
    assert sorted(cells_of(page)) == sorted(row["hash"] for row in sweep.collect(both))
    assert '<span data-value="12.345678">12.3</span> <small>a remark</small>' in page
    assert [str(p.relative_to(both / "csv")) for p in sorted((both / "csv").rglob("*.csv"))] == ["shared/owner.csv"]
    drawn = {path.name for path in (both / "figures").iterdir()}
    # The reader brings a figure, so what every experiment has is not drawn a second time.
    assert drawn == {"shared-reader-line.svg", "shared-owner-accuracy.svg", "shared-owner-seconds.svg"}


def test_one_experiment_alone_lists_its_runs_and_writes_the_owners_table_whole(
    both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = RUN.to_dict() | {"epochs": 100_000, "rule": "bp"}
    (both / "spec.json").write_text(Run.from_json(stopped).to_json())
    assert main(["run", "--spec", str(both / "spec.json"), "--runs", str(both), "--time-limit", "0.2s"]) == 0
    capsys.readouterr()
    command = ["report", str(both), "--experiment", "shared/reader", "--csv", str(both / "csv")]
    assert main(command) == 0
    assert "not finished" not in capsys.readouterr().err, "the stopped run is not the reader's"
    page = (both / "report.html").read_text()
    assert "Finished runs: 1. Experiments: 1." in page
    (fa,) = (row["hash"] for row in sweep.collect(both) if row["rule"] == "fa")
    assert cells_of(page) == [fa]
    assert {row["rule"] for row in sweep.read_csv(both / "csv" / "shared" / "owner.csv")} == {"bp", "fa"}


def test_a_table_holds_the_runs_that_diverged(both: Path) -> None:
    lost = Run.from_json(RUN.to_dict() | {"lr": 9.0})
    folder = lost.folder(both)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(lost.to_json())
    Summary("failed", lost.hash, commit="abc", message="the loss is not finite at step 9; lower lr").write(folder)
    assert main(["report", str(both), "--csv", str(both / "csv")]) == 0
    rows = sweep.read_csv(both / "csv" / "shared" / "owner.csv")
    (row,) = [row for row in rows if row["status"] == "failed"]
    assert (row["hash"], row["lr"], row["commit"], row["test_accuracy"]) == (lost.hash, 9.0, "abc", None)
    assert len(rows) == 3


def test_an_exhibit_with_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 columns and a row of 1 cells"):
        Table("x", ["a", "b"], [["only one"]])


def test_a_number_of_one_epoch_compares_with_that_epoch() -> None:
    rows = [{"experiment": "x", "preset": "paper", "hash": k, "test_accuracy": 0.9} for k in ("a", "b")]
    histories = {"a": [{"epoch": 1, "test_accuracy": 0.25}, {"epoch": 2, "test_accuracy": 0.5}], "b": []}
    number = Published("x", "q", 40.0, "a log", "test_accuracy", factor=100.0, epoch=2)
    (found,) = pages.comparisons(rows, [number], histories)
    assert (found.values, found.specs, found.difference) == ([50.0], ["a"], 10.0)
    assert pages.comparisons(rows, [number]) == []


def row(seed: int = 0, *, preset: str = "paper", value: float = 0.5, **changes: Any) -> dict[str, Any]:
    run = Run(**({"experiment": "x", "seed": seed} | changes))
    return {**sweep.flat(run), "preset": preset, "hash": run.hash, "test_accuracy": value}


def rule_of(one: Mapping[str, Any]) -> str:
    return str(one["rule"])


def test_no_mean_is_taken_over_two_settings() -> None:
    rows = [row(1), row(0), row(0, lr=0.05), row(0, rule="fa"), row(0, rule="fa")]
    groups = named(rows, rule_of, order=("fa", "bp"))
    assert {name: [r["seed"] for r in members] for name, members in groups.items()} == {
        "fa": [0],
        "bp, lr=0.1": [0, 1],
        "bp, lr=0.05": [0],
    }
    assert next(iter(groups)) == "fa"


def test_a_seed_that_was_measured_twice_counts_once() -> None:
    more = row(0, measures=["norms"]) | {"norm/1": 2.0}
    assert named([more, row(0), row(1)], rule_of) == {"bp": [more, row(1)]}


def test_exhibits_never_mix_presets_and_leave_smoke_out_where_there_is_more() -> None:
    seen: list[list[str]] = []

    @per_preset
    def make(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        seen.append(sorted(str(r["preset"]) for r in rows))
        return [Table("T", ["a"], [[len(rows)]]), Figure("f", "F", plots.figure()[0])]

    rows = [row(0), row(1), row(2, preset="paper (changed)"), row(3, preset="smoke"), row(4, preset="smoke (changed)")]
    found = make(rows, {}, Path())
    assert seen == [["paper", "paper"], ["paper (changed)"]]
    assert [one.title for one in found[::2]] == ["T (preset paper)", "T (preset paper (changed))"]
    assert [one.name for one in found if isinstance(one, Figure)] == ["f-paper", "f-paper-changed"]
    (table, figure) = make(rows[3:4], {}, Path())
    assert (table.title, figure.name) == ("T (preset smoke)", "f")  # type: ignore[union-attr]


def test_means_and_deviations_are_those_of_the_seeds() -> None:
    drawn = series({1: [1.0, 3.0], 2: [4.0]})
    assert list(drawn.mean) == [2.0, 4.0]
    assert (drawn.low[0], drawn.high[0]) == (pytest.approx(2 - 2**0.5), pytest.approx(2 + 2**0.5))
    histories = {
        "a": [{"epoch": 1, "m": 1.0}, {"epoch": 2, "m": None}],
        "b": [{"epoch": 1, "m": 2.0}, {"epoch": 3, "m": 5.0}],
    }
    found = curve([{"hash": "a"}, {"hash": "b"}, {"hash": "gone"}], histories, "m")
    assert (list(found.x), list(found.mean)) == ([1, 3], [1.5, 5.0])
    assert mean_and_sd([1.0, 3.0]) == (Number(2.0, "2.00"), "±", Number(2**0.5, "1.41"))
    assert mean_and_sd([1.0]) == (Number(1.0, "1.00"),)


@pytest.mark.parametrize(
    ("value", "text"), [(1.005, "+1.00"), (-0.126, "\N{MINUS SIGN}0.13"), (0.001, "0.00"), (-0.001, "0.00")]
)
def test_a_difference_that_rounds_to_nothing_has_no_sign(value: float, text: str) -> None:
    assert fixed(value, 2, sign=True) == text


def test_the_terminal_says_options_as_the_page_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--rules", "bp,dfa", "--rule-options", "dfa.hidden_scale=2", "--epochs", "1"]
    assert main([*command, "--train-limit", "200", "--alignment-batch", "0", "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "options.hidden_scale=2" in out
    assert "options={}" not in out
