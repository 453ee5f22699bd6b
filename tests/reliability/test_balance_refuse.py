"""What ``equipoise balance`` refuses: one clear line, exit code 2, nothing written.

A failure here means a traceback in a user's face, code run from a file, or a damaged file of weights.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from equipoise import models
from equipoise.cli import main

MODEL = "mlp:6-5-3"


def weights(**changes: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The weights of MODEL, some of them changed (names with _ for the dot)."""
    state = models.make(MODEL, seed=0).state_dict()
    return {n: changes.get(n.replace(".", "_"), lambda v: v)(v).contiguous() for n, v in state.items()}


class Sneaky:
    """What a file may hold that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.touch, (Path("ran"),)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def make(folder: Path, name: str) -> Path:
    """The bad file called ``name``."""
    path = folder / name
    stem, _, kind = name.partition(".")
    if stem == "absent":
        return path
    if stem == "folder":
        path.mkdir()
    elif stem == "garbage":
        path.write_bytes(b"not weights " * 40)
    elif stem == "empty":
        path.touch()
    elif stem == "sneaky":
        torch.save({"1.weight": torch.ones(2), "extra": Sneaky()}, path)
    elif stem == "module":
        torch.save(models.make(MODEL), path)
    elif stem == "numbers":
        torch.save({"loss": 0.5}, path)
    else:
        state = {
            "good": weights,
            "cut": weights,
            "short": lambda: {n: v for n, v in weights().items() if not n.endswith("bias")},
            "long": lambda: {**weights(), **{f"head.{k}": torch.ones(1) for k in range(5)}},
            "wide": lambda: weights(**{"1_weight": lambda v: torch.ones(5, 7)}),
            "whole": lambda: weights(**{"3_weight": lambda v: v.mul(100).to(torch.int8)}),
            "nan": lambda: weights(**{"3_weight": lambda v: v * float("nan")}),
            "inf": lambda: weights(**{"1_bias": lambda v: v + float("inf")}),
        }[stem]()
        torch.save(state, path) if kind == "pt" else save_file(state, path)
        if stem == "cut":
            cut(path)
    return path


# the file, flags -> what the line says
TABLE: dict[str, tuple[str, list[str], str]] = {
    "missing": ("absent.safetensors", [], r"there is no file '.*absent\.safetensors'"),
    "missing pickle": ("absent.pt", [], r"there is no file '.*absent\.pt'"),
    "no run": ("folder.x", [], r"is no folder of a run; name a file of weights"),
    "ending": ("garbage.npz", [], r"unknown ending; weights are read from \.safetensors, \.pt"),
    "damaged": ("garbage.safetensors", [], r"garbage\.safetensors.*damaged or is no safetensors"),
    "damaged pickle": ("garbage.pt", [], r"'.*garbage\.pt' is damaged or was not written by torch\.save"),
    "empty": ("empty.safetensors", [], r"empty\.safetensors.*damaged"),
    "empty pickle": ("empty.pt", [], r"'.*empty\.pt' is damaged"),
    "cut": ("cut.safetensors", [], r"cut\.safetensors.*damaged"),
    "cut pickle": ("cut.pt", [], r"'.*cut\.pt' is damaged"),
    "code": ("sneaky.pt", [], r"holds more than tensors, and reading it would run code.*save model\.state_dict\(\)"),
    "whole module": ("module.pt", [], r"holds more than tensors.*save model\.state_dict\(\)"),
    "no tensors": ("numbers.pt", [], r"holds no state dict \(tensors by name\)"),
    "keys missing": ("short.safetensors", [], r"does not fit the model: missing are 1\.bias, 3\.bias; name the model"),
    "keys unexpected": (
        "long.safetensors",
        [],
        r"does not fit the model: unexpected are head\.0, head\.1, head\.2 and 2 more",
    ),
    "both": ("good.safetensors", ["--model", "mlp:6-5-4-3"], r"missing are 5\.weight, 5\.bias; name"),
    "shapes": ("wide.safetensors", [], r"1\.weight is \(5, 7\) where the model has \(5, 6\)"),
    "integers": ("whole.safetensors", [], r"3\.weight is int8; balance scales .* so balance before quantising"),
    "nan": ("nan.safetensors", [], r"3\.weight.*finite"),
    "infinite": ("inf.safetensors", [], r"1\.bias.*finite"),
    "no model": ("good.safetensors", ["--model", ""], r"--model is missing"),
    "unknown model": ("good.safetensors", ["--model", "mpl:6-5-3"], r"unknown model 'mpl'; did you mean 'mlp'"),
    "no function": ("good.safetensors", ["--model", "nowhere:build"], r"there is no module 'nowhere'"),
    "nothing to scale": (
        "good.safetensors",
        ["--model", f"{MODEL},activation=tanh"],
        r"no unit of the model can be scaled",
    ),
    "p": ("good.safetensors", ["--p", "0"], r"p of an Lp cost must be a finite number above 0, got 0\.0"),
    "negative p": ("good.safetensors", ["--p=-1"], r"must be a finite number above 0, got -1\.0"),
    "tol": ("good.safetensors", ["--tol", "0"], r"tol must lie between 0 and 1, got 0\.0"),
    "tol that cannot be met": ("good.safetensors", ["--tol", "1e-30"], r"the tolerance 1e-30 was not met"),
    "method": ("good.safetensors", ["--method", "newtn"], r"unknown method 'newtn'; did you mean 'newton'"),
    "frozen": ("good.safetensors", ["--frozen", "conv.*"], r"frozen='conv\.\*' matches no parameter"),
    "example": ("good.safetensors", ["--example", "6x"], r"--example '6x' does not read as sizes"),
    "example that does not fit": ("good.safetensors", ["--example", "7"], r"does not trace"),
    "out folder": ("good.safetensors", ["--out", "nowhere/x.safetensors"], r"--out: there is no folder 'nowhere'"),
    "out ending": ("good.safetensors", ["--out", "x.npz"], r"--out 'x\.npz' has an unknown ending"),
    "does not trace": (
        "good.safetensors",
        ["--model", "branches_for_balance:build"],
        r"branches_for_balance\.py:7 `if",
    ),
}
BRANCHES = """\
    import torch
    from torch import nn

    class Branches(nn.Sequential):
        def forward(self, x):
            h = super().forward(x.flatten(1))
            if h.sum() > 0:
                return h
            return -h

    def build():
        return Branches(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
"""


@pytest.mark.parametrize("name", TABLE)
def test_one_line_and_nothing_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, flags, says = TABLE[name]
    (tmp_path / "branches_for_balance.py").write_text(textwrap.dedent(BRANCHES))
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path, file)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    given = [] if "--model" in flags else ["--model", MODEL]
    code = main(["balance", str(path), *given, *flags])
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert re.search(says, err), err
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "__pycache__" not in str(p)}
    assert after == before
