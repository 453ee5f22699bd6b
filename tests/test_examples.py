"""Every example runs, and does what its first line says."""

from __future__ import annotations

import re
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def fractions(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def balanced(numbers: list[float]) -> bool:
    norm, smaller, deficit, none, accuracy, same, moved = numbers
    return smaller < norm and none < 1e-9 < 0.1 < deficit and accuracy == same > 0.85 and moved < 1e-4


SAYS: dict[str, Callable[[str], bool]] = {
    "train_any_model": lambda out: fractions(out)[0] > 0.85,
    "angle_to_backprop": lambda out: all(a < b for b, a in zip(fractions(out)[:1], fractions(out)[1:2], strict=True)),
    "many_networks_at_once": lambda out: len(set(fractions(out))) == 8 and max(fractions(out)) < 1.5,
    "excitatory_cells": lambda out: fractions(out)[0] < 2.0 and "-" not in out,
    # Accuracy; then the angle at each step that was watched, which falls.
    "pepita_loop": lambda out: fractions(out)[0] > 0.85 and fractions(out)[1] > fractions(out)[-3],
    # Norm, deficit, accuracy: before, after; then how far the scores moved.
    "balance_trained_model": lambda out: balanced(fractions(out)[-7:]),
    # 1,437 pictures are 45 batches, so each epoch ends balanced; the accuracy comes last.
    "balance_in_training": lambda out: max(fractions(out)[:-1]) < 1e-5 and fractions(out)[-1] > 0.85,
    # Per cent: layer norm, E-I without norm, I-Norm, I-Norm + center; inhibition makes up for most of what is missing.
    "inorm_changing_light": lambda out: min(fractions(out)[2:]) > fractions(out)[1] + 15 > 50,
    # Rates of three layers, then the accuracy.
    "spiking_digits": lambda out: all(0.05 < rate < 0.4 for rate in fractions(out)[:3]) and fractions(out)[3] > 0.85,
    # Accuracy; then of each step watched the degrees, and the distance from orthogonal weights.
    "targets_not_gradients": lambda out: fractions(out)[0] > 0.85 and max(fractions(out)[1:]) < 1.5,
    "pepita_lightning": lambda out: fractions(out)[-1] > 0.85,
    "pepita_trainer": lambda out: fractions(out)[-1] > 0.85,
}
# What an example needs beyond the library; it is skipped where that is not installed.
NEEDS = {"pepita_lightning": ("lightning",), "pepita_trainer": ("transformers", "accelerate")}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SAYS)
    assert all(len(path.read_text().splitlines()) < 60 for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", list(SAYS))
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for library in NEEDS.get(name, ()):
        pytest.importorskip(library, reason=f"the example needs it: pip install {' '.join(NEEDS[name])}")
    with warnings.catch_warnings():
        if name in NEEDS:
            warnings.simplefilter("ignore")  # other libraries' own
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert SAYS[name](out), out
