"""Images that stay on disk: a failure here hides pictures of another size, order or label than the run asked for, files
that were left out in silence, or a network that cannot be trained from a folder end to end.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from equipoise import data, sweep
from equipoise.cli import main
from equipoise.errors import InputError, StorageError
from equipoise.train import Machine, Run, read_weights, storage, train
from reliability._sessions import stopped


def pictures(root: Path, count: int = 6, classes: int = 3) -> None:
    """Class k is bright in its k-th third; JPEG for training, PNG for validation, of all sizes."""
    from PIL import Image

    source = np.random.default_rng(0)
    for part, kind in (("train", "JPEG"), ("val", "png")):
        for label in range(classes):
            place = root / part / f"class{label}"
            place.mkdir(parents=True)
            for row in range(count):
                pixels = source.integers(0, 60, (20 + 3 * row, 33, 3), np.uint8)
                pixels[:, 11 * label : 11 * (label + 1)] += 150
                Image.fromarray(pixels).save(place / f"{row}.{kind}")


def test_options_of_the_loader_stand_behind_a_comma(tmp_path: Path) -> None:
    formats.class_folders(tmp_path / "pets")
    plain = data.load("imagenet,name=pets,size=12", folder=tmp_path)
    assert (plain.name, plain.shape, plain.note) == ("pets", (3, 12, 12), "")
    x, y = plain.train.batch(torch.arange(6))
    found = data.load("imagenet,name=pets,size=12,normalise=yes,fit=squash", folder=tmp_path).train.batch(
        torch.arange(6)
    )
    red = (torch.tensor([200 / 255, 0, 0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(found[0][0], red[:, None, None].expand(3, 12, 12), atol=1e-5)
    assert torch.allclose(x[0, 0], torch.tensor(200 / 255))
    assert torch.equal(found[1], y)


def test_squash_keeps_the_whole_image(tmp_path: Path) -> None:
    """White at the very left of a wide picture: cropped away, or squashed along."""
    from PIL import Image

    for part in ("train", "val"):
        (tmp_path / "wide" / part / "a").mkdir(parents=True)
        pixels = np.zeros((10, 40, 3), np.uint8)
        pixels[:, :8] = 255
        Image.fromarray(pixels).save(tmp_path / "wide" / part / "a" / "0.png")
    for fit, seen in (("squash", True), ("crop", False)):
        split = data.image_folders(tmp_path / "wide", size=10, fit=fit).train
        assert bool((split.batch(torch.tensor([0]))[0][0, 0, :, 0] > 0.9).all()) == seen


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet,side=3", "no option 'side=3'; options are KEY=VALUE, here with defaults: size=224"),
        ("imagenet,size=big", "'big' is no value of size"),
        ("imagenet,normalise=1", "'1' is no value of normalise"),
        ("imagenet,name=pets,fit=stretch", "way to fit an image"),
        ("imagenet,name=cats", "cats is not in"),
        ("digits,size=4", "here with defaults: none"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, name: str, message: str) -> None:
    formats.class_folders(tmp_path / "pets")
    with pytest.raises(InputError) as caught:
        data.load(name, folder=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_decoded_ahead_is_what_batch_gives(tmp_path: Path) -> None:
    pictures(tmp_path / "p")
    split = data.image_folders(tmp_path / "p", size=9).train
    orders = [torch.tensor(o) for o in ([3, 1, 1, 17], [0, 5, 3], [], [16, 2, 9, 4])]
    alone = [split.batch(order)[0] for order in orders if len(order)]
    split.ahead(torch.tensor([8, 7]))  # which nobody asks for
    seen = []
    for order, after in zip(orders, [*orders[1:], torch.tensor([])], strict=True):
        if len(order):
            seen.append(split.batch(order)[0])
            assert isinstance(split, data.FolderSplit)
            assert not split._asked or len(seen) == 1, "what batch gave does not stay in memory"
        split.ahead(after.long())
    assert all(torch.equal(a, b) for a, b in zip(seen, alone, strict=True))
    assert not split._asked, "nothing stays behind in memory"
    twin = split.take(torch.tensor([16, 2]))
    twin.ahead(torch.tensor([1]))
    assert torch.equal(twin.batch(torch.tensor([1]))[0][0], alone[-1][1])


def test_a_broken_file_ends_the_run_with_its_name_and_a_repaired_one_lets_it_go_on(tmp_path: Path) -> None:
    pictures(tmp_path / "p")
    broken = tmp_path / "p" / "train" / "class1" / "2.JPEG"
    good = broken.read_bytes()
    run = Run(model="gait-imagenet:3x12x12-3,width=0.1", data="imagenet,name=p,size=12", epochs=2, batch_size=4)
    machine = Machine(runs=str(tmp_path / "runs"), data_dir=str(tmp_path), checkpoint_every=0)
    broken.write_bytes(good[: len(good) // 2])
    with pytest.raises(StorageError, match=r"class1/2\.JPEG is damaged"):
        train(run, machine)
    broken.write_bytes(good)
    assert train(run, machine).status == "finished"
    whole = dataclasses.replace(machine, runs=str(tmp_path / "whole"))
    train(run, whole)
    weights = [read_weights(run.folder(m.runs) / "weights.safetensors") for m in (machine, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_the_imagenet_experiment_runs_from_a_folder_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """BP, FA, targets, differences and mixed precision, from JPEG files to a table with top-5."""
    pictures(tmp_path / "mine", classes=7)
    command = [
        *("run", "gait/imagenet", "--preset", "paper", "--data", "imagenet,name=mine,size=24,fit=squash,normalise=yes"),
        *("--model", "gait-imagenet:3x24x24-7,width=0.2", "--epochs", "2", "--every", "1", "--looks", "8"),
        *("--data-dir", str(tmp_path), "--runs", str(tmp_path / "runs")),
    ]
    assert main(command) == 0
    rows = {(row["rule"], row["precision"]): row for row in sweep.collect(tmp_path / "runs")}
    assert len(rows) == 5
    for row in rows.values():
        assert row["test_top5"] >= row["test_accuracy"]
        assert row["train_set_top5"] >= row["train_set_accuracy"]
        trace = storage.read_lines(tmp_path / "runs" / "gait" / "imagenet" / str(row["hash"]) / "trace.jsonl")
        assert len(trace) == 2
        if row["rule"] == "gait":
            assert trace[0]["angle"] < (5 if row["precision"] == "bfloat16" else 0.1)
    assert "paper (changed)" in capsys.readouterr().out


def test_a_stopped_run_goes_on_in_the_middle_of_an_epoch_with_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "p")
    assert data.describe("imagenet,size=3") == data.describe("imagenet")
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    run = Run(
        model="gait-imagenet:3x12x12-3,width=0.1", data="imagenet,name=p,size=12", epochs=3, batch_size=4, rule="gait"
    )
    folder = stopped(run, tmp_path / "stopped", at=1)
    assert train(run, Machine(runs=str(tmp_path / "stopped"))).status == "finished"
    train(run, Machine(runs=str(tmp_path / "whole")))
    weights = [read_weights(run.folder(tmp_path / name) / "weights.safetensors") for name in ("stopped", "whole")]
    assert folder == run.folder(tmp_path / "stopped")
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
