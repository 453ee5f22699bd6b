"""What the command line says of its runs: a failure here hides a changed protocol, a wrong unit, or a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from equipoise import data, models, rules, sweep
from equipoise.cli import demo, drawings, main, pages
from equipoise.train import Run, Summary, storage

SMALL = ["--epochs", "1", "--model", "mlp:64-8-10", "--train-limit", "200", "--alignment-batch", "32"]
MNIST = ["run", "feedback/mnist", "--preset", "smoke"]


def say(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """The exit code of a command, and what it wrote to standard output and error."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as exit_:  # the flag parser's own way out
        code = int(str(exit_.code))
    return code, *capsys.readouterr()


def test_the_table_has_units_seeds_angle_settings_and_the_command_for_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "my runs"
    code, out, _ = say(capsys, "compare", "--rules", "bp,", "fa", *SMALL, "--seeds", "2", "--runs", runs)
    assert code == 0
    head, *lines = out.splitlines()
    assert [word.strip() for word in re.split(r"\s{2,}", head)] == [
        "rule",
        "test accuracy, %",
        "seeds",
        "angle, °",
        "seconds",
    ]
    rows = sweep.collect(runs)
    for line, rule in zip(lines, ("bp", "fa"), strict=False):
        name, accuracy, seeds, angle, _ = re.split(r"\s{2,}", line.strip())
        mine = [row for row in rows if row["rule"] == rule]
        assert (name, seeds) == (rule, "2")
        assert float(accuracy.split()[0]) == pytest.approx(50 * sum(row["test_accuracy"] for row in mine), abs=0.06)
        assert float(angle) == pytest.approx(sum(row["angle"] for row in mine) / 2, abs=0.06)
    assert "95 % Student interval" in out
    assert "`" not in out
    assert f"equipoise report '{runs}'" in out


def test_what_the_data_set_wants_said_stands_by_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = data.load("digits")
    monkeypatch.setitem(
        data.loaders._parts,
        "digits",
        lambda folder: data.Dataset("digits", digits.train, digits.test, digits.classes, "copies [of copies]"),
    )
    _, out, _ = say(capsys, "train", *SMALL, "--runs", tmp_path)
    assert "copies [of copies]" in out
    assert say(capsys, "report", tmp_path)[0] == 0
    assert "copies [of copies]" in (tmp_path / "report.html").read_text()


def test_a_preset_with_a_change_is_no_longer_called_by_its_name(tmp_path: Path) -> None:
    assert main([*MNIST, "--rules", "bp", "--runs", str(tmp_path)]) == 0
    assert main([*MNIST, "--rules", "bp", "--lr", "0.05", "--runs", str(tmp_path)]) == 0
    assert main([*MNIST, "--rules", "bp", "--protocol", "authors", "--seed", "1", "--runs", str(tmp_path)]) == 0
    rows = {(row["preset"], row["lr"], row["seed"], row["select"]) for row in sweep.collect(tmp_path)}
    assert rows == {
        ("smoke", 0.1, 0, "last"),
        ("smoke (changed)", 0.05, 0, "last"),
        ("smoke (best epoch on test)", 0.1, 1, "test"),
    }
    assert pages.comparisons([{"preset": "smoke (changed)", **SMOKED}], [NUMBER]) == []
    (shown,) = pages.comparisons([{"preset": "paper (changed)", **SMOKED}], [NUMBER])
    assert shown.preset == "paper (changed)"


SMOKED = {"experiment": "x", "test_accuracy": 0.5, "hash": "0"}
NUMBER = pages.Published("x", "q", 50.0, "Table 1", "test_accuracy", factor=100.0)


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--rule", "fa"],
        ["compare", "--options", "scale=2"],
        [*MNIST, "--experiment", "mine"],
        [*MNIST, "--rule", "fa"],
        ["train", "--preset", "paper"],
        ["train", "--version", "2"],
    ],
)
def test_a_flag_that_would_do_nothing_or_mislead_does_not_exist(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = say(capsys, *words, "--runs", tmp_path)
    assert code == 2
    assert "Unrecognized" in err
    assert not list(tmp_path.iterdir())


def test_force_is_a_flag_and_a_finished_run_says_that_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", *SMALL, "--runs", tmp_path]
    assert "finished before" not in say(capsys, *command)[2]
    (folder,) = (tmp_path / "train").iterdir()
    before = (folder / "summary.json").stat().st_mtime_ns
    assert "finished before, so nothing is trained; --force trains it anew" in say(capsys, *command)[2]
    assert (folder / "summary.json").stat().st_mtime_ns == before
    code, _, err = say(capsys, *command, "--force")
    assert code == 0
    assert "finished before" not in err
    assert (folder / "summary.json").stat().st_mtime_ns != before


def test_another_optimiser_does_without_the_options_of_the_first(tmp_path: Path) -> None:
    assert Run(optimizer="adam").optimizer_options == {}
    assert Run(optimizer="adam").hash == Run(optimizer="adam", optimizer_options={}).hash
    assert Run(optimizer="SGD").optimizer_options == Run().optimizer_options == {"momentum": 0.9}
    for words in (["--optimizer", "adam"], ["--optimizer", "rmsprop", "--optimizer-options", "momentum=0.9"]):
        assert main(["train", *SMALL, *words, "--runs", str(tmp_path)]) == 0
    assert main([*MNIST, "--rules", "bp", "--optimizer=adamw", "--runs", str(tmp_path)]) == 0
    rows = {row["optimizer"]: row.get("optimizer_options.momentum") for row in sweep.collect(tmp_path)}
    assert rows == {"adam": None, "rmsprop": 0.9, "adamw": None}


def test_a_misspelt_name_is_refused_before_anything_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--rules", "bp,dfaa"], ["--rules", "bp", "--data", "digit"], ["--rules", "bp,fa", "--loss", "mes"]):
        code, _, err = say(capsys, "compare", *words, *SMALL, "--runs", tmp_path)
        assert (code, "did you mean" in err) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_users_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_for_cli.py").write_text(
        "import torch\n"
        "class Fails(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        if self.training and len(x) > 2:\n            raise KeyError('lost\\n it')\n"
        "        return super().forward(x.flatten(1))\n"
        "def build():\n    return Fails(64, 10)\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["train", "--model", "fails_for_cli:build", "--epochs", "1"]
    code, _, err = say(capsys, *command)
    assert code == 1
    assert "Traceback" not in err
    assert re.fullmatch(r"error: KeyError: .*lost.*it.*\(--debug shows where\)", err.splitlines()[-1])
    with pytest.raises(KeyError):
        main([*command, "--debug"])


def test_ctrl_c_while_torch_is_imported_ends_at_once(tmp_path: Path) -> None:
    """Extension modules swallow the ``KeyboardInterrupt`` and the command went on half imported."""
    (tmp_path / "torch.py").write_text(
        "import signal\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
        "raise RuntimeError('half imported')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "equipoise", "train"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_a_stopped_demo_says_that_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Summary(status="stopped", hash="0", steps=7, cause="SIGINT")
    monkeypatch.setattr(demo, "train", lambda *_, **__: stopped)
    code, _, err = say(capsys, "demo", "--runs", tmp_path)
    assert code == 130
    assert err == "what was trained is saved; the same command goes on\nstopped\n"


def test_the_demo_shows_every_rule_and_asks_none_for_what_it_cannot_train() -> None:
    ordinary = [n for n in rules.names() if not rules.registry[n].inverts]
    plan = demo._plan(rules.names())
    seen = {kind: {run.rule for k, run in plan if k == kind} for kind in ("dense", "residual", "inverse")}
    assert seen["dense"] == set(ordinary)
    assert seen["inverse"] == {"bp"} | set(rules.names()) - set(ordinary)
    assert {"bp", "fa", "dfa", "usf", "shallow"} <= seen["residual"]
    for _, run in plan:
        rules.make(run.rule, models.make(run.model), example=data.load(run.data).train.batch(torch.arange(2))[0])
    rows = [{"rule": "pepita", "experiment": "demo/dense", "test_accuracy": 0.9, "angle": 60.0}]
    (line,) = demo._summary_table(["pepita"], rows, {"pepita": 1.5}).rows
    assert line[3:5] == [None, None]


def test_list_names_every_option_of_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = say(capsys, "list")
    for word in ("hidden_scale=1.0", "sign=false", "inside=exact", "kaiming_normal", "adamw", "cosine", "product"):
        assert word in out
    for rule in rules.names():
        assert re.search(rf"^  {rule} +\S", out, re.MULTILINE)
    assert "``" not in out


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with finished runs at two learning rates, a failed run and a stopped one."""
    assert main(["train", *SMALL, "--seeds", "2", "--runs", str(tmp_path)]) == 0
    assert main(["train", *SMALL, "--lr", "0.2", "--runs", str(tmp_path)]) == 0
    assert main(["train", *SMALL, "--lr", "1e30", "--runs", str(tmp_path)]) == 1
    assert main(["train", "--epochs", "100000", "--time-limit", "0.2s", "--runs", str(tmp_path)]) == 0
    return tmp_path


def test_a_report_names_what_it_does_not_show(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = say(capsys, "report", mixed)
    assert code == 0
    assert err.count("note: 1 run of 'train' diverged\n") == 1
    assert err.count("is not finished (stopped): stopped at step") == 1
    page = (mixed / "report.html").read_text()
    assert "Finished runs: 3. Experiments: 1. Not finished, and not shown: 2." in page
    assert "lr=0.2" in page
    code, _, err = say(capsys, "report", mixed, "--experiment", "trian")
    assert (code, "did you mean 'train'" in err) == (2, True)


def test_a_curve_never_mixes_settings(mixed: Path) -> None:
    found = drawings.variants(sweep.collect(mixed))
    assert {name: len(rows) for name, rows in found.items()} == {"bp, lr=0.1": 2, "bp, lr=0.2": 1}


def test_what_is_too_much_for_a_figure_is_left_to_the_tables() -> None:
    def drawn(rates: int) -> list[str]:
        rows = [{"rule": "bp", "hash": f"{k}", "lr": 0.1 + k, "seed": 0, "seconds": 1.0} for k in range(rates)]
        return [figure.name for figure in drawings.drawings(rows, {})]

    assert drawn(drawings.MOST) == ["seconds"]
    assert drawn(drawings.MOST + 1) == []


def edit(path: Path, **fields: object) -> None:
    storage.write_json(path, {**storage.read_json(path), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": None},
        {"seconds": "long"},
        {"epoch": 1.5},
        {"note": 3},
        {"selected": {"test_accuracy": "high"}},
        {"selected": {"angle": [1]}},
        {"metrics": []},
    ],
)
def test_an_edited_summary_is_left_out_and_named(
    fields: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        assert main(["train", *SMALL, "--seed", str(seed), "--runs", str(tmp_path)]) == 0
    folder = Run(epochs=1, model="mlp:64-8-10", train_limit=200, alignment_batch=32).folder(tmp_path)
    edit(folder / "summary.json", **fields)
    code, _, err = say(capsys, "report", tmp_path)
    assert code == 0
    assert "Traceback" not in err
    assert re.search(rf"note: left out: '{folder}/summary.json' is damaged or was edited: .*expected", err), err
    assert "Finished runs: 1." in (tmp_path / "report.html").read_text()
    code, _, err = say(capsys, "train", *SMALL, "--runs", tmp_path)
    assert (code, "--force" in err) == (1, True)


def test_edited_metrics_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--runs", str(tmp_path)]) == 0
    (path,) = tmp_path.rglob("metrics.jsonl")
    path.write_text(path.read_text().replace('"test_accuracy": ', '"test_accuracy": "about", "was": '))
    code, _, err = say(capsys, "report", tmp_path)
    assert code == 0
    assert f"note: left out: 'test_accuracy' of line 1 of '{path}' is 'about'; expected a number" in err
