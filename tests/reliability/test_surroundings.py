"""A run leaves its process as it found it; a failure here gives the next run of a sweep other numbers, or another folder."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise import sweep
from equipoise.errors import InputError
from equipoise.train import Machine, Run, storage, train
from equipoise.train.surroundings import kept
from reliability._sessions import with_tests

NOSY = Run(model="reliability._nets:nosy", epochs=1, train_limit=100, test_limit=50)
PLAIN = Run(epochs=1, train_limit=100, test_limit=50)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with torch's and Python's settings put back at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", with_tests())
    monkeypatch.delenv("EQUIPOISE_NOSY", raising=False)
    yield tmp_path
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


def test_settings_that_a_model_changes_are_put_back(here: Path) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    next_numbers = random.Random(1).random(), np.random.RandomState(1).rand()
    assert train(NOSY, Machine(runs="runs")).status == "finished"
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert "EQUIPOISE_NOSY" not in os.environ
    assert (random.random(), np.random.rand()) == next_numbers  # noqa: NPY002


def test_the_folder_is_the_one_before(here: Path) -> None:
    (here / "other").mkdir()

    def moves() -> None:
        with kept(torch.device("cpu")):
            os.chdir("other")
            raise InputError("mine")

    with pytest.raises(InputError, match="mine"):
        moves()
    assert Path.cwd() == here


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_the_next_run_of_a_sweep_has_the_numbers_that_it_has_alone(executor: str, here: Path) -> None:
    train(PLAIN, Machine(runs="alone", threads=1))
    found = sweep.execute([NOSY, PLAIN], Machine(runs="runs", threads=1), executor=executor, workers=1)
    assert [one.status for one in found] == ["finished"] * 2
    one, two = (storage.read_lines(PLAIN.folder(root) / "metrics.jsonl")[-1] for root in ("alone", "runs"))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in two.items() if k != "seconds"}
