"""What a run leaves alone, and what its files say on the way.

A failure here hides seeds compared on different test samples, a process left with another thread count, a tie that
goes to the later epoch, or a metrics file that repeats an epoch while a resumed run is under way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.train import Machine, Run, storage, train
from equipoise.train.parts import build
from equipoise.train.progress import Quiet

RUN = Run(epochs=3, train_limit=200, test_limit=50, validation=0.2)


def test_all_seeds_are_compared_on_the_same_test_samples() -> None:
    one, two = (build(dataclasses.replace(RUN, seed=seed), Machine()) for seed in (0, 1))
    assert torch.equal(one.test.images, two.test.images)
    assert len(one.test) == 50
    assert not torch.equal(one.train.images, two.train.images)


def test_the_thread_count_is_the_machines_and_comes_back(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    seen: list[int] = []

    class Counting(Quiet):
        def epoch(self, metrics: Mapping[str, Any]) -> None:
            seen.append(torch.get_num_threads())

    summary = train(RUN, Machine(runs=tmp_path, threads=2), progress=Counting())
    assert seen == [2, 2, 2]
    assert summary.threads == 2
    assert torch.get_num_threads() == 1


def test_of_equal_epochs_the_earliest_is_selected(tmp_path: Path) -> None:
    """At a rate of zero every epoch has the same accuracy."""
    run = dataclasses.replace(RUN, lr=0.0, select="validation")
    assert train(run, Machine(runs=tmp_path)).selected_epoch == 1


def test_a_resumed_run_repeats_no_line_on_its_way(tmp_path: Path) -> None:
    path = RUN.folder(tmp_path) / "metrics.jsonl"

    class Reading(Quiet):
        def epoch(self, metrics: Mapping[str, Any]) -> None:
            rows = storage.read_lines(path)
            assert [row["epoch"] for row in rows] == list(range(1, metrics["epoch"] + 1))

    class Failing(Reading):
        def epoch(self, metrics: Mapping[str, Any]) -> None:
            super().epoch(metrics)
            if metrics["epoch"] == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(RUN, Machine(runs=tmp_path, checkpoint_every=1e9), progress=Failing())
    assert len(storage.read_lines(path)) == 2
    assert train(RUN, Machine(runs=tmp_path), progress=Reading()).status == "finished"
