"""``--steps`` and event data, and what the sequence experiment follows.

A failure here means runs that the model refuses at the first batch, or sequences scored as wholes alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise import sweep
from equipoise.errors import InputError
from equipoise.papers import load_all
from equipoise.papers.eisnn.conditions import Scale, plain
from equipoise.papers.eisnn.figures_compared import streamed
from equipoise.papers.eisnn.layers import network_of
from equipoise.papers.exhibits import Figure, Table
from equipoise.train import experiments

load_all()


@pytest.mark.parametrize(
    ("where", "data"),
    [
        ("gesture-vgg8", "dvs-gesture,frames=6"),
        ("dvs-vgg11", "cifar10-dvs,frames=6"),
        ("moving-digits", "moving-digits,frames=6"),
        ("vgg8", "cifar10"),
        ("mnist", "mnist"),
    ],
)
def test_events_are_cut_into_as_many_frames_as_the_network_has_steps(where: str, data: str) -> None:
    own, other = plain(where, "ei", 0, Scale()), plain(where, "ei", 0, Scale(steps=6))
    assert ",steps=6" in other.model
    assert other.data == data
    assert network_of(sweep.flat(other)) == f"{network_of(sweep.flat(own))}, T = 6"
    same = plain(where, "ei", 0, Scale(steps=int(own.model.partition("steps=")[2])))
    assert same == own


@pytest.mark.parametrize("where", ["sequence", "digits-sequence", "digits-moving-digits"])
def test_data_with_frames_of_their_own_refuse_another_number(where: str) -> None:
    with pytest.raises(InputError, match=r"--steps is 6, and '.*' has \d+ frames"):
        plain(where, "ei", 0, Scale(steps=6))


@pytest.mark.parametrize("preset", ["smoke", "quick", "paper"])
def test_sequences_are_scored_frame_by_frame(preset: str) -> None:
    for run in experiments["eisnn/sequence"].preset(preset).runs(0):
        assert run.measures == ["spiking", "streaming"]
        assert run.measure_batch == (16 if preset == "smoke" else 1000)
    assert experiments["eisnn/fashion"].preset(preset).runs(0)[0].measures == ["spiking"]


def test_the_exhibits_show_accuracy_after_each_frame(tmp_path: Path) -> None:
    run = experiments["eisnn/sequence"].preset("quick").runs(0)[0]
    scores = {f"streaming/{t}": t / 28 for t in range(1, 29)}
    row = {**sweep.flat(run), "hash": "a", "preset": "quick", "status": "finished", "epoch": 3, "test_accuracy": 0.9}
    found = streamed([{**row, "train_accuracy": 0.95, **scores}], {}, tmp_path)
    (table,) = [one for one in found if isinstance(one, Table) and one.title.startswith("Accuracy frame by frame")]
    cells = [cell[0] if isinstance(cell, tuple) else cell for cell in table.rows[0]]
    assert [getattr(cell, "text", cell) for cell in cells[2:]] == [28, "25.0", "50.0", "75.0", "100.0", 1]
    assert [one.name for one in found if isinstance(one, Figure) and one.name.startswith("streaming")]
