"""Datasets read from files of every format, written here independently of the readers, and missing ones.

A failure here would hide images that are transposed, cropped off centre or paired with another label, a JPEG
copy that nobody announces, and a missing set that does not say how it is had.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from equipoise import data
from equipoise.data import images, sets
from equipoise.errors import InputError, StorageError


def expected_labels(form: str, part: str, count: int, classes: int) -> list[int]:
    if form == "tiny-folders":
        return [0, 0, 0, 1, 1, 1] if part == "train" else [1, 0, 1, 0]
    return formats.labels(count, classes)


@pytest.mark.parametrize("form", formats.SETS)
def test_every_format_gives_its_pixels_and_labels_back(form: str, tmp_path: Path) -> None:
    name, write = formats.SETS[form]
    written = write(tmp_path / name)
    dataset = data.load(name, folder=tmp_path)
    assert dataset.name == name
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        assert np.array_equal(split.images.numpy(), written[part])
        assert split.labels.tolist() == expected_labels(form, part, len(written[part]), len(dataset.classes))
    assert "JPEG" not in dataset.note
    assert data.load(name, folder=str(tmp_path)) is dataset, "unchanged files are remembered"


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("cifar10", "cifar-10-batches-bin"),
        ("cifar100", "cifar-100-binary"),
        ("tiny-imagenet", "tiny-imagenet-200"),
    ],
)
def test_an_archive_unpacked_under_its_own_name_is_found(name: str, inside: str, tmp_path: Path) -> None:
    write = {
        "cifar10": formats.cifar10_binary,
        "cifar100": formats.cifar100_binary,
        "tiny-imagenet": formats.tiny_folders,
    }
    write[name](tmp_path / inside)
    assert len(data.load(name, folder=tmp_path).train) > 0


def test_shards_are_read_in_order_and_all_of_them(tmp_path: Path) -> None:
    rows = formats.pixels(9, (3, 32, 32))
    root = tmp_path / "cifar10"
    for part in range(3):
        piece = slice(3 * part, 3 * part + 3)
        content = [formats.encode(image) for image in rows[piece]]
        name = f"train-{part:05}-of-00003-ab12.parquet"
        formats.parquet(root / name, content, {"label": formats.labels(9, 10)[piece]}, image="img")
    formats.parquet(root / "test-00000-of-00001.parquet", [formats.encode(rows[0])], {"label": [1]}, image="img")
    dataset = data.load("cifar10", folder=tmp_path)
    assert np.array_equal(dataset.train.images.numpy(), rows)
    assert dataset.train.labels.tolist() == formats.labels(9, 10)
    (root / "train-00001-of-00003-ab12.parquet").unlink()
    with pytest.raises(StorageError, match="2 of 3 files"):
        data.load("cifar10", folder=tmp_path)


def test_jpeg_copies_of_exact_pixels_are_announced(tmp_path: Path) -> None:
    formats.parquet_set(tmp_path / "cifar10", (3, 32, 32), 10, image="img", kind="JPEG")
    formats.tiny_folders(tmp_path / "tiny-imagenet", kind="JPEG")
    for again in range(2):
        assert "JPEG-compressed copies" in data.load("cifar10", folder=tmp_path).note, f"load {again}"
        assert "JPEG" not in data.load("tiny-imagenet", folder=tmp_path).note
        data.load("digits")
        sets.forget()


def test_class_names_come_from_the_file_if_it_has_them(tmp_path: Path) -> None:
    names = [f"kind {label}" for label in range(10)]
    formats.parquet_set(tmp_path / "cifar10", (3, 32, 32), 10, image="img", names=names)
    assert data.load("cifar10", folder=tmp_path).classes == tuple(names)


def test_image_folders_decode_on_demand(tmp_path: Path) -> None:
    formats.class_folders(tmp_path / "imagenet")
    dataset = data.image_folders(tmp_path / "imagenet", size=28)
    assert dataset.shape == (3, 28, 28)
    assert dataset.classes == ("n01", "n02")
    split = dataset.train.take(torch.tensor([5, 0, 3]))
    assert len(split) == 3
    x, y = split.to("cpu").batch(torch.tensor([2, 0, 1, 1]))
    assert x.dtype == torch.float32
    assert y.tolist() == [1, 1, 0, 0]
    red, green = torch.tensor([200 / 255, 0, 0]), torch.tensor([0, 100 / 255, 0])
    for image, label in zip(x, y, strict=True):
        colour = (red, green)[int(label)][:, None, None].expand(3, 28, 28)
        assert torch.allclose(image, colour)
    train, validation = data.hold_out(dataset.train, 0.5, seed=0)
    assert sorted(train.images.tolist() + validation.images.tolist()) == list(range(6))
    data.check(dataset.train, dataset.classes)
    whole = data.load("imagenet", folder=tmp_path)
    assert whole.shape == (3, 224, 224)
    assert whole.test.batch(torch.tensor([0]))[0].shape == (1, 3, 224, 224)


def test_the_crop_is_the_centre_at_the_right_scale() -> None:
    """A picture of 80 x 160 with one bright square in its middle, cut to 35: the square is still in the middle."""
    from PIL import Image

    picture = np.zeros((80, 160), np.uint8)
    picture[30:50, 70:90] = 255
    cut = np.asarray(images.centre_crop(35)(Image.fromarray(picture))).astype(float)
    assert cut.shape == (35, 35)
    # The shorter side 80 becomes 40, so the square of 20 pixels becomes one of 10.
    assert abs(cut.sum() / 255 - 100) < 5
    centre = (cut.sum(0) @ np.arange(35) / cut.sum(), cut.sum(1) @ np.arange(35) / cut.sum())
    assert all(abs(each - 17) <= 0.5 for each in centre), centre


def test_large_images_are_decoded_by_threads_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = formats.pixels(21, (3, 64, 64))
    encoded = [formats.encode(row) for row in rows]
    assert len(encoded[0]) > 8192
    shape = (3, 64, 64)
    made = []
    pool = images.pool
    monkeypatch.setattr(images, "pool", lambda: made.append(1) or pool())
    decoded = images.decode_all(21, encoded.__getitem__, shape, images.exact(shape), where=str)
    assert made
    assert np.array_equal(decoded.numpy(), rows)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet"])
def test_a_missing_set_is_one_line_with_folder_files_and_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        data.load(name, folder=tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(tmp_path / name) in line
    assert f"`equipoise fetch {name} --data-dir {tmp_path}`" in line
    assert "train.parquet" in line
    assert {"mnist": "train-images-idx3-ubyte.gz", "cifar10": "data_batch_1.bin"}.get(name, "") in line


def test_a_set_of_which_one_file_is_missing_names_it(tmp_path: Path) -> None:
    formats.idx_set(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"only t10k-labels-idx1-ubyte\.gz is missing"):
        data.load("mnist", folder=tmp_path)


def test_without_a_folder_only_embedded_sets_can_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    assert len(data.load("digits").test) == 360
    for name in ("mnist", "imagenet"):
        with pytest.raises(InputError, match="EQUIPOISE_DATA"):
            data.load(name)
    formats.idx_set(tmp_path / "mnist")
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    assert len(data.load("mnist").train) == 12


def test_missing_imagenet_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train/<wnid>/\*\.JPEG.*image-net\.org"):
        data.load("imagenet", folder=tmp_path)


@pytest.mark.parametrize(("package", "form"), [("pyarrow", "cifar10-parquet"), ("PIL", "tiny-folders")])
def test_a_missing_package_is_named_with_its_extra(
    package: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write = formats.SETS[form]
    write(tmp_path / name)
    for module in (package, f"{package}.parquet", f"{package}.Image"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'equipoise\[data\]'"):
        data.load(name, folder=tmp_path)
