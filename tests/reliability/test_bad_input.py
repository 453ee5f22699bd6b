"""Bad input on the command line: one clear line on standard error, the right exit code, finished runs untouched.

A failure here means a traceback in a user's face, or a result lost to a typing mistake.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise import sweep
from equipoise.cli import main

FAST = ["--epochs", "1", "--model", "mlp:64-8-10", "--alignment-batch", "0"]

# name -> (command, what the line says, exit code); {tmp} is a folder of the test's own
TABLE: dict[str, tuple[list[str], str, int]] = {
    "unknown command": (["trian"], r"unknown command 'trian'; did you mean 'train'", 2),
    "unknown rule": (["train", "--rule", "dfaa", *FAST], r"unknown rule 'dfaa'; did you mean 'dfa'", 2),
    "unknown rule option": (
        ["train", "--rule", "dfa", "--options", "hiden_scale=2", *FAST],
        r"did you mean 'hidden_scale'",
        2,
    ),
    "rule option's type": (
        ["train", "--rule", "dfa", "--options", "sign=maybe", *FAST],
        r"sign of rule 'dfa' takes bool",
        2,
    ),
    "unknown experiment": (
        ["run", "feedback/mnst"],
        r"unknown experiment 'feedback/mnst'; did you mean 'feedback/mnist'",
        2,
    ),
    "unknown preset": (["run", "feedback/mnist", "--preset", "smok"], r"'smok'; did you mean 'smoke'", 2),
    "preset without value": (["run", "feedback/mnist", "--preset"], r"--preset needs a value", 2),
    "seed that is no number": (
        ["run", "feedback/mnist", "--seed", "one"],
        r"--seed takes a whole number, not 'one'",
        2,
    ),
    "unknown data": (["train", "--data", "digit", *FAST], r"unknown data.*'digit'; did you mean 'digits'", 2),
    "missing data": (
        ["train", "--data", "mnist", "--data-dir", "{tmp}", *FAST],
        r"train-images.*equipoise fetch mnist",
        2,
    ),
    "unknown model": (["train", "--model", "mpl:64-10"], r"unknown model 'mpl'; did you mean 'mlp'", 2),
    "model without dropout": (
        ["train", "--model", "conv:1x8x8-10,dropout=0.1"],
        r"options are activation=.*bias=yes\|no, init=",
        2,
    ),
    "unknown measure": (["train", "--measures", "norms,produkt", *FAST], r"unknown measure 'produkt'.*'product'", 2),
    "measure twice": (["train", "--measures", "norms", "norms", *FAST], r"'measures' names 'norms' twice", 2),
    "nobody to measure": (["train", "--measure-batch", "0", *FAST], r"'measure_batch' is 0", 2),
    "whitening without an epsilon": (["train", "--whiten", "0", *FAST], r"'whiten' is 0.0; it must be positive", 2),
    "whitened and augmented": (
        ["train", "--whiten", "0.1", "--augment", "flip", *FAST],
        r"augment 'flip' moves pixels, which 'whiten' has mixed",
        2,
    ),
    "unknown column": (["run", "pepita/table1", "--columns", "fc-mnits"], r"'fc-mnits'; did you mean 'fc-mnist'", 2),
    "rule's option in a grid": (
        ["run", "pepita/table1", "--preset", "smoke", "--rule-options", "drtp.hiden_scale=2"],
        r"option of rule 'drtp': 'hiden_scale'; did you mean 'hidden_scale'",
        2,
    ),
    "rate of a rule that is not in the grid": (
        ["run", "pepita/table1", "--rules", "bp,fa", "--rates", "pepita=1"],
        r"'rates' names pepita",
        2,
    ),
    "no kernels to freeze": (["run", "pepita/frozen-conv", "--columns", "fc-mnist"], r"'fc-mnist' has no kernels", 2),
    "one layer is not deep": (["run", "pepita/depth", "--layers", "1"], r"2 layers or more, not 'fc-mnist' with 1", 2),
    "model sizes": (["train", "--model", "mlp:64-a-10"], r"does not read as mlp:784-300-10", 2),
    "model of one's own missing": (["train", "--model", "nowhere.here:build"], r"no module 'nowhere'", 2),
    "model and data do not fit": (["train", "--model", "mlp:63-8-10", "--epochs", "1"], r"does not (accept|take)", 2),
    "too few outputs": (["train", "--model", "mlp:64-8-9", "--epochs", "1"], r"9.*10", 2),
    "unknown loss": (["train", "--loss", "cross", *FAST], r"unknown loss 'cross'; did you mean 'cross_entropy'", 2),
    "unknown optimiser": (["train", "--optimizer", "adamm", *FAST], r"'adamm'; did you mean", 2),
    "optimiser option": (
        ["train", "--optimizer-options", "momentun=0.9", *FAST],
        r"momentun.*did you mean 'momentum'",
        2,
    ),
    "unknown scheduler": (["train", "--scheduler", "cosin", *FAST], r"'cosin'; did you mean 'cosine'", 2),
    "negative epochs": (["train", "--epochs", "-1"], r"'epochs' is -1", 2),
    "learning rate NaN": (["train", "--lr", "nan", *FAST], r"'lr' is nan", 2),
    "no seeds": (["train", "--seeds", "0", *FAST], r"--seeds is 0", 2),
    "time limit": (["train", "--time-limit", "soon", *FAST], r"'soon' is no duration", 2),
    "device": (["train", "--device", "gpu0", *FAST], r"'device' is 'gpu0'", 2),
    "device that is not here": (
        ["train", "--device", "meta", "--lr", "0.3", *FAST],
        r"'meta' is not available here; use --device cpu",
        2,
    ),
    "unknown executor": (["train", "--executor", "slrm", *FAST], r"unknown executor 'slrm'", 2),
    "dfa without hidden layer": (["train", "--rule", "dfa", "--model", "mlp:64-10"], r"no hidden layer", 2),
    "rates for another rule": (["compare", "--rules", "bp,fa", "--rates", "dfa=1", *FAST], r"'rates' names dfa", 2),
    "rate that is no number": (["compare", "--rates", "fa=high", *FAST], r"rate of 'fa' is 'high'; give a number", 2),
    "option of one rule among several": (
        ["compare", "--rule-options", "dfa.sgn=true", *FAST],
        r"option of rule 'dfa': 'sgn'; did you mean 'sign'",
        2,
    ),
    "unknown protocol": (["run", "feedback/mnist", "--protocol", "author"], r"'author'; did you mean 'authors'", 2),
    "options before the experiment": (["run", "--seeds", "2"], r"name the experiment first", 2),
    "model that the rule cannot train": (
        ["train", "--model", "bad_data_for_cli:recurrent", "--rule", "fa"],
        r"'a\.weight_ih_l0' is used by",
        2,
    ),
    "spec file missing": (["run", "--spec", "{tmp}/none.json"], r"there is no spec file", 2),
    "spec nonsense": (["run", "--spec", "{tmp}/nonsense.json"], r"nonsense.json", 2),
    "spec with unknown key": (["run", "--spec", "{tmp}/key.json"], r"'epoch'.*did you mean 'epochs'", 2),
    "spec with a wrong type": (["run", "--spec", "{tmp}/type.json"], r"'epochs'", 2),
    "data of one's own with NaN": (
        ["train", "--data", "bad_data_for_cli:nan", "--model", "mlp:4-8-3"],
        r"NaN|not finite",
        2,
    ),
    "data with strange labels": (["train", "--data", "bad_data_for_cli:labels", "--model", "mlp:4-8-3"], r"label", 2),
    "data with labels beyond its classes": (
        ["train", "--data", "bad_data_for_cli:classes", "--model", "mlp:4-8-3"],
        r"needs \(2, 8\)",
        2,
    ),
    "data with labels that are no integers": (
        ["train", "--data", "bad_data_for_cli:floats", "--model", "mlp:4-8-3"],
        r"label.*float|float.*label",
        2,
    ),
    "data with more labels than images": (
        ["train", "--data", "bad_data_for_cli:more", "--model", "mlp:4-8-3"],
        r"20.*21|21.*20",
        2,
    ),
    "data of another shape in the test split": (
        ["train", "--data", "bad_data_for_cli:shapes", "--model", "mlp:4-8-3"],
        r"4.*5|5.*4",
        2,
    ),
    "data of no samples": (["train", "--data", "bad_data_for_cli:empty", "--model", "mlp:4-8-3"], r"empty|no ", 2),
    "truncated data file": (["train", "--data", "mnist", "--data-dir", "{tmp}/cut", *FAST], r"train-images", 1),
    "empty data file": (["train", "--data", "mnist", "--data-dir", "{tmp}/void", *FAST], r"train-images.*", 1),
    "report on nothing": (["report", "{tmp}/nowhere"], r"there is no folder", 2),
    "report on an empty folder": (["report", "{tmp}/empty"], r"no finished run to report on", 2),
    "unknown kind of part": (["list", "rule"], r"unknown kind of part 'rule'; did you mean 'rules'", 2),
    "demo with a flag": (["demo", "--fast"], r"demo does not know '--fast'", 2),
    "fetch without a folder": (["fetch", "mnist"], r"--data-dir DIR, or set EQUIPOISE_DATA", 2),
    "fetch of an unknown set": (["fetch", "mnst", "--data-dir", "{tmp}"], r"'mnst'; did you mean 'mnist'", 2),
    "unwritable folder": (["train", "--runs", "/proc/none", *FAST], r"/proc/none", 1),
}


def digest(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *FAST, "--runs", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "empty").mkdir()
    (folder / "nonsense.json").write_text("{not json")
    (folder / "key.json").write_text(json.dumps({"epoch": 3}))
    (folder / "type.json").write_text(json.dumps({"epochs": "three"}))
    (folder / "bad_data_for_cli.py").write_text(
        "import torch\n"
        "def pair(x, y):\n    return (x, y), (x.clone(), y.clone())\n"
        "def nan():\n    x = torch.randn(20, 4)\n    x[3, 1] = float('nan')\n    return pair(x, torch.arange(20) % 3)\n"
        "def labels():\n    return pair(torch.randn(20, 4), torch.arange(20) % 3 - 1)\n"
        "def classes():\n    x = torch.randn(20, 4)\n    y = torch.arange(20) % 3\n    t = y.clone()\n    t[0] = 7\n"
        "    return (x, y), (x, t)\n"
        "def floats():\n    return pair(torch.randn(20, 4), torch.arange(20) / 3)\n"
        "def more():\n    return pair(torch.randn(20, 4), torch.arange(21) % 3)\n"
        "def shapes():\n    y = torch.arange(20) % 3\n    return (torch.randn(20, 4), y), (torch.randn(20, 5), y)\n"
        "class Recurrent(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b = torch.nn.LSTM(8, 5, batch_first=True), torch.nn.Linear(5, 10)\n"
        "    def forward(self, x):\n        return self.b(self.a(x.reshape(-1, 8, 8))[0][:, -1])\n"
        "def recurrent():\n    return Recurrent()\n"
        "def empty():\n    return pair(torch.randn(0, 4), torch.zeros(0, dtype=torch.long))\n"
    )
    cut = folder / "cut" / "mnist"
    cut.mkdir(parents=True)
    whole = gzip.compress(b"\0\0\x08\x03" + (10).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2 + bytes(7840))
    labels = gzip.compress(b"\0\0\x08\x01" + (10).to_bytes(4, "big") + bytes(range(10)))
    for part in ("train", "t10k"):
        (cut / f"{part}-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
        (cut / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)
    void = folder / "void" / "mnist"
    void.mkdir(parents=True)
    for path in cut.iterdir():
        (void / path.name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("case", list(TABLE))
def test_bad_input(
    case: str, finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, message, code = TABLE[case]
    monkeypatch.chdir(place)
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    words = [word.replace("{tmp}", str(place)) for word in command]
    if words[0] in ("train", "compare", "run") and "--runs" not in words:
        words += ["--runs", str(finished)]
    before = digest(finished)
    capsys.readouterr()
    try:
        found = main(words)
    except SystemExit as exit_:  # the flag parser's own way out
        found = exit_.code
    err = capsys.readouterr().err
    assert found == code, err
    line = err.strip().splitlines()[-1]
    assert re.search(message, line), err
    assert "Traceback" not in err
    after = digest(finished)
    assert {path: after[path] for path in before} == before


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="unknown rule"):
        main(["train", "--rule", "dfaa", "--debug", *FAST])


def test_an_unknown_flag_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--epoch", "3"])
    assert caught.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_one_failure_among_several_is_named_and_the_others_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compare", "--rules", "bp,dfa", "--rates", "dfa=1e30", *FAST, "--runs", str(tmp_path)])
    err = capsys.readouterr().err
    assert code == 1
    assert re.search(r"failed: compare/[0-9a-f]{12} \(dfa, seed 0\): .*step", err)
    assert [r["rule"] for r in sweep.collect(tmp_path)] == ["bp"]


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_a_missing_data_set_stops_no_other_column(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    command = ["run", "pepita/table1", "--preset", "smoke", "--columns", "fc-cifar100,fc-digits", "--rules", "bp,fa"]
    command += ["--epochs", "1", "--executor", executor, "--data-dir", str(tmp_path / "none")]
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 1
    assert sorted(r["rule"] for r in sweep.collect(tmp_path / "runs")) == ["bp", "fa"]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert len(lines) == 1
    assert re.search(
        r"failed: pepita/table1/[0-9a-f]{12} \(bp, seed 0\) and 1 more: cifar100 is not in .*fetch", lines[0]
    )


def test_the_console_script_is_this_main(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "equipoise", "train", "--rule", "dfaa"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
