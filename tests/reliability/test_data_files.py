"""Every way in which a file of images can be broken.

A failure here would hide a damaged file that is trained on, or one that ends in another library's traceback
instead of one line that names the file, the row and what was seen.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from equipoise import data
from equipoise.data import sets
from equipoise.errors import EquipoiseError, InputError, StorageError


def cut_points(size: int, count: int) -> list[int]:
    """Offsets from 0 to size - 1: the first and last ones, and others drawn between."""
    drawn = np.random.default_rng(size).integers(0, size, count).tolist()
    return sorted({0, 1, 3, 4, 8, 15, 16, size // 2, size - 1, size - 4, size - 8, *drawn} & set(range(size)))


TRUNCATED = {
    "idx-gzip": ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    "idx-raw": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "cifar10-binary": ("data_batch_3.bin", "test_batch.bin"),
    "cifar100-binary": ("train.bin",),
    "cifar10-parquet": ("train.parquet", "test.parquet"),
    "tiny-folders": ("train/n01/images/n01_1.JPEG", "val/images/val_0.JPEG"),
}


@pytest.mark.parametrize(("form", "file"), [(form, file) for form, all_ in TRUNCATED.items() for file in all_])
def test_a_file_cut_anywhere_is_a_storage_error_that_names_it(form: str, file: str, tmp_path: Path) -> None:
    name, write = formats.SETS[form]
    written = write(tmp_path / name)
    path = tmp_path / name / file
    whole = path.read_bytes()
    record = {"cifar10-binary": 3073, "cifar100-binary": 3074}.get(form)
    for size in cut_points(len(whole), 25):
        path.write_bytes(whole[:size])
        if record and size and size % record == 0:
            continue  # whole records: shorter, but a file of the format
        try:
            dataset = data.load(name, folder=tmp_path)
        except StorageError as error:
            message = str(error)
        else:
            # The last bytes of a PNG hold no pixels: Pillow can do without them, and then nothing is lost.
            assert form == "tiny-folders"
            assert len(whole) - size <= 16, size
            assert np.array_equal(dataset.train.images.numpy(), written["train"])
            assert np.array_equal(dataset.test.images.numpy(), written["test"])
            continue
        assert path.name in message, size
        assert "\n" not in message
    path.write_bytes(whole)
    assert len(data.load(name, folder=tmp_path).train) > 0


@pytest.mark.parametrize("form", formats.SETS)
def test_flipped_bytes_never_end_in_another_librarys_error(form: str, tmp_path: Path) -> None:
    name, write = formats.SETS[form]
    write(tmp_path / name)
    random = np.random.default_rng(1)
    paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
    for turn in range(40):
        path = paths[turn % len(paths)]
        whole = path.read_bytes()
        broken = bytearray(whole)
        # Half of the hits go to the first and last bytes, where formats keep their structure.
        reach = (len(broken), min(64, len(broken)))[turn % 2]
        for at in random.integers(0, reach, 3).tolist():
            broken[-1 - at if turn % 4 == 3 else at] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(broken))
        sets.forget()
        with contextlib.suppress(EquipoiseError):
            data.load(name, folder=tmp_path)
        path.write_bytes(whole)


IDX_LIES = {
    "more images than there are": (formats.idx_bytes(np.zeros((3, 28, 28), np.uint8), shape=(4, 28, 28)), "4, 28, 28"),
    "fewer images than there are": (
        formats.idx_bytes(np.zeros((3, 28, 28), np.uint8), shape=(2, 28, 28)),
        "holds more",
    ),
    "as many as 32 bits hold": (struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3) + b"1234", "only 4"),
    "nothing at all": (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), "promises nothing"),
    "labels": (formats.idx_bytes(np.zeros(12, np.uint8)), "begins with 00 00 08 01"),
    "floats": (struct.pack(">4B3I", 0, 0, 13, 3, 1, 1, 1) + b"\0" * 4, "begins with 00 00 0d 03"),
    "a web page": (b"<html>not found</html>", "begins with 3c 68 74 6d"),
    "half a header": (struct.pack(">4B2I", 0, 0, 8, 3, 2, 28), "ends inside its header"),
    "another number of images than labels": (formats.idx_bytes(np.zeros((5, 28, 28), np.uint8)), "5 images"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lie", IDX_LIES)
def test_an_idx_file_that_lies_is_caught(lie: str, packed: bool, tmp_path: Path) -> None:
    formats.idx_set(tmp_path / "mnist")
    content, message = IDX_LIES[lie]
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(StorageError, match=re.escape(message)):
        data.load("mnist", folder=tmp_path)


def test_gzip_with_a_wrong_sum_or_bytes_after_its_end_is_caught(tmp_path: Path) -> None:
    formats.idx_set(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole + b"more", whole[:-8] + bytes(4) + whole[-4:]):
        path.write_bytes(broken)
        with pytest.raises(StorageError, match="gzip stream"):
            data.load("mnist", folder=tmp_path)


def test_labels_out_of_range_name_the_file_and_the_row(tmp_path: Path) -> None:
    formats.idx_set(tmp_path / "mnist", classes=11)
    with pytest.raises(StorageError, match=r"train-labels.*label 10 of image 1 is outside 0\.\.9"):
        data.load("mnist", folder=tmp_path)
    content = [formats.encode(row) for row in formats.pixels(3, (3, 32, 32))]
    for part in ("train", "test"):
        formats.parquet(tmp_path / "cifar10" / f"{part}.parquet", content, {"label": [0, -1, 2]}, image="img")
    with pytest.raises(StorageError, match="label -1 of image 1"):
        data.load("cifar10", folder=tmp_path)


def test_splits_of_different_shapes_are_refused(tmp_path: Path) -> None:
    formats.idx_set(tmp_path / "mnist")
    small = formats.idx_bytes(np.zeros((10, 14, 14), np.uint8))
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(small))
    with pytest.raises(StorageError, match=r"\(1, 14, 14\).*\(1, 28, 28\)"):
        data.load("mnist", folder=tmp_path)


def test_a_parquet_row_at_fault_is_named(tmp_path: Path) -> None:
    good = [formats.encode(row) for row in formats.pixels(4, (3, 32, 32))]
    wide = formats.encode(formats.pixels(1, (3, 32, 48))[0])
    root = tmp_path / "cifar10"
    formats.parquet(root / "test.parquet", good, {"label": [0] * 4}, image="img")
    cases: list[tuple[list[bytes | None], list[int | None], str]] = [
        ([*good[:2], b"no image", good[3]], [0] * 4, "row 2 of .*train.parquet is damaged: its 8 bytes"),
        ([*good[:3], good[3][: len(good[3]) // 2]], [0] * 4, "row 3 of"),
        ([good[0], wide, good[2], good[3]], [0] * 4, "row 1 of .*32 x 48 pixels, not 32 x 32"),
        ([good[0], None, good[2], good[3]], [0] * 4, "row 1 has no image bytes"),
        ([*good], [0, 1, None, 3], "row 2 has no label"),
        ([], [], "it has no rows"),
    ]
    for content, numbers, message in cases:
        formats.parquet(root / "train.parquet", content, {"label": numbers}, image="img")
        with pytest.raises(StorageError, match=message):
            data.load("cifar10", folder=tmp_path)


def test_parquet_of_another_schema_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = [formats.encode(row) for row in formats.pixels(2, (3, 32, 32))]
    root = tmp_path / "cifar10"
    formats.parquet(root / "test.parquet", good, {"label": [0, 1]}, image="img")
    formats.parquet(root / "train.parquet", good, {"label": [0, 1]}, image="image")
    with pytest.raises(StorageError, match="no column 'img', but image, label"):
        data.load("cifar10", folder=tmp_path)
    images = pa.array([{"bytes": each} for each in good], pa.struct([("bytes", pa.binary())]))
    texts = pa.array([{"bytes": "no"}] * 2, pa.struct([("bytes", pa.string())]))
    for column, label, message in (
        (pa.array(good, pa.binary()), [0, 1], "not a struct"),
        (texts, [0, 1], "not binary"),
        (images, ["cat", "dog"], "not an integer"),
    ):
        pq.write_table(pa.table({"img": column, "label": label}), root / "train.parquet")
        with pytest.raises(StorageError, match=message):
            data.load("cifar10", folder=tmp_path)


def test_broken_folders_of_tiny_imagenet_are_named(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet"
    formats.tiny_folders(root)
    table = root / "val" / "val_annotations.txt"
    lines = table.read_text()
    for text, message in (
        (lines.replace("n02", "n99", 1), "line 1 names no class"),
        (lines.replace("\t", " "), "line 1 names no class"),
        (lines.replace("val_2", "val_7"), r"cannot read .*val_7\.JPEG"),
        ("", "val_annotations.txt is damaged: it is empty"),
    ):
        table.write_text(text)
        with pytest.raises(StorageError, match=message):
            data.load("tiny-imagenet", folder=tmp_path)
    table.write_text(lines)
    for file in (root / "train" / "n02" / "images").iterdir():
        file.unlink()
    with pytest.raises(StorageError, match=r"n02/images is damaged: it holds no images"):
        data.load("tiny-imagenet", folder=tmp_path)


def test_broken_image_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder 'train'"):
        data.image_folders(tmp_path)
    formats.class_folders(tmp_path / "a")
    (tmp_path / "a" / "val" / "n01").rename(tmp_path / "a" / "val" / "n77")
    with pytest.raises(StorageError, match="its class 'n77' is not in train"):
        data.image_folders(tmp_path / "a")
    formats.class_folders(tmp_path / "b")
    (tmp_path / "b" / "train" / "n02" / "1.png").write_bytes(b"\x89PNG broken")
    split = data.image_folders(tmp_path / "b", size=16).train
    with pytest.raises(StorageError, match=r"n02/1\.png is damaged"):
        split.batch(torch.arange(6))
    with pytest.raises(InputError, match="0 pixels"):
        data.image_folders(tmp_path / "b", size=0)
