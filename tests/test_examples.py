"""Every example runs, and does what its first line says."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def fractions(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


SAYS: dict[str, Callable[[str], bool]] = {
    "train_any_model": lambda out: fractions(out)[0] > 0.85,
    "angle_to_backprop": lambda out: all(a < b for b, a in zip(fractions(out)[:1], fractions(out)[1:2], strict=True)),
    "many_networks_at_once": lambda out: len(set(fractions(out))) == 8 and max(fractions(out)) < 1.5,
    "excitatory_cells": lambda out: fractions(out)[0] < 2.0 and "-" not in out,
}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", list(SAYS))
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert SAYS[name](out), out
