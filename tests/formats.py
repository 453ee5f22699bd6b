"""Small files of every format that the package reads, written independently of its readers."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def pixels(count: int, shape: tuple[int, ...], *, seed: int = 0) -> Pixels:
    """Random images (count, C, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count: int, classes: int) -> list[int]:
    return [(7 * row + 3) % classes for row in range(count)]


def idx_bytes(array: NDArray[np.uint8], *, shape: Sequence[int] | None = None) -> bytes:
    """An IDX file of unsigned bytes; ``shape`` puts another promise into its header."""
    sides = array.shape if shape is None else tuple(shape)
    return struct.pack(f">BBBB{len(sides)}I", 0, 0, 8, len(sides), *sides) + array.tobytes()


def encode(image: Pixels, kind: str = "PNG") -> bytes:
    """One image (C, H, W) as PNG or JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(stream, kind)
    return stream.getvalue()


def idx_set(root: Path, count: int = 12, *, packed: bool = True, classes: int = 10) -> dict[str, Pixels]:
    """The four files of MNIST in ``root``; returns the images by split."""
    root.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (part, prefix) in enumerate((("train", "train"), ("test", "t10k"))):
        images = pixels(count - 2 * seed, (1, 28, 28), seed=seed)
        numbers = np.array(labels(len(images), classes), np.uint8)
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", numbers)):
            content = idx_bytes(array)
            path = root / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
        written[part] = images
    return written


def cifar_bytes(images: Pixels, *columns: Sequence[int]) -> bytes:
    """CIFAR's binary records: the label columns, then the planes."""
    head = np.array(columns, np.uint8).T
    return np.concatenate([head, images.reshape(len(images), -1)], axis=1).tobytes()


def cifar10_binary(root: Path) -> dict[str, Pixels]:
    root.mkdir(parents=True, exist_ok=True)
    train = pixels(15, (3, 32, 32))
    numbers = labels(15, 10)
    for part in range(5):
        rows = slice(3 * part, 3 * part + 3)
        content = cifar_bytes(train[rows], numbers[rows])
        (root / f"data_batch_{part + 1}.bin").write_bytes(content)
    test = pixels(4, (3, 32, 32), seed=1)
    (root / "test_batch.bin").write_bytes(cifar_bytes(test, labels(4, 10)))
    return {"train": train, "test": test}


def cifar100_binary(root: Path) -> dict[str, Pixels]:
    root.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, part in enumerate(("train", "test")):
        images = pixels(9 - seed, (3, 32, 32), seed=seed)
        coarse = [19] * len(images)
        (root / f"{part}.bin").write_bytes(cifar_bytes(images, coarse, labels(len(images), 100)))
        written[part] = images
    return written


def parquet(
    path: Path,
    encoded: Sequence[bytes | None],
    columns: Mapping[str, Sequence[int | None]],
    *,
    image: str = "image",
    names: dict[str, Sequence[str]] | None = None,
) -> None:
    """A Parquet file in the hub's schema; ``names`` are class names by column, in the hub's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None if content is None else {"bytes": content, "path": None} for content in encoded]
    arrays = {image: pa.array(rows, kind), **{key: pa.array(each, pa.int64()) for key, each in columns.items()}}
    table = pa.table(arrays)
    if names:
        features = {key: {"names": list(each), "_type": "ClassLabel"} for key, each in names.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def parquet_set(
    root: Path,
    shape: tuple[int, int, int],
    classes: int,
    *,
    image: str = "image",
    label: str = "label",
    files: tuple[str, str] = ("train.parquet", "test.parquet"),
    kind: str = "PNG",
    names: Sequence[str] = (),
) -> dict[str, Pixels]:
    """Both files of a set in the hub's schema; CIFAR-100's second label column comes with ``fine_label``."""
    written = {}
    for seed, (part, file) in enumerate(zip(("train", "test"), files, strict=True)):
        images = pixels(8 - seed, shape, seed=seed)
        columns: dict[str, Sequence[int | None]] = {label: labels(len(images), classes)}
        if label == "fine_label":
            columns["coarse_label"] = [0] * len(images)
        content = [encode(each, kind) for each in images]
        parquet(root / file, content, columns, image=image, names={label: names} if names else None)
        written[part] = images
    return written


def tiny_folders(root: Path, *, kind: str = "PNG") -> dict[str, Pixels]:
    """The original layout of Tiny ImageNet with two classes; its files are called .JPEG whatever they hold."""
    train, test = pixels(6, (3, 64, 64)), pixels(4, (3, 64, 64), seed=1)
    for row, image in enumerate(train):
        wnid = ("n01", "n02")[row // 3]
        place = root / "train" / wnid / "images"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{wnid}_{row}.JPEG").write_bytes(encode(image, kind))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("unused\n")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for row, image in enumerate(test):
        (root / "val" / "images" / f"val_{row}.JPEG").write_bytes(encode(image, kind))
        lines.append(f"val_{row}.JPEG\t{('n02', 'n01')[row % 2]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return {"train": train, "test": test}


def class_folders(root: Path, sizes: Sequence[tuple[int, int]] = ((40, 60), (64, 30), (33, 33))) -> None:
    """``train/<class>/*`` and ``val/<class>/*`` with flat colours: class 0 is red 200, class 1 is green 100."""
    for part in ("train", "val"):
        for wnid, colour in (("n01", (200, 0, 0)), ("n02", (0, 100, 0))):
            place = root / part / wnid
            place.mkdir(parents=True)
            for row, (height, width) in enumerate(sizes):
                image = np.empty((3, height, width), np.uint8)
                image[:] = np.array(colour, np.uint8)[:, None, None]
                (place / f"{row}.png").write_bytes(encode(image))


# Every format by a short name: the set that it is a format of, and what writes it.
Write = Callable[[Path], dict[str, Pixels]]

SETS: dict[str, tuple[str, Write]] = {
    "idx-gzip": ("mnist", idx_set),
    "idx-raw": ("fashion-mnist", lambda root: idx_set(root, packed=False)),
    "mnist-parquet": ("mnist", lambda root: parquet_set(root, (1, 28, 28), 10)),
    "cifar10-binary": ("cifar10", cifar10_binary),
    "cifar100-binary": ("cifar100", cifar100_binary),
    "cifar10-parquet": ("cifar10", lambda root: parquet_set(root, (3, 32, 32), 10, image="img")),
    "cifar100-parquet": (
        "cifar100",
        lambda root: parquet_set(root, (3, 32, 32), 100, image="img", label="fine_label"),
    ),
    "tiny-parquet": (
        "tiny-imagenet",
        lambda root: parquet_set(root, (3, 64, 64), 200, files=("train.parquet", "valid.parquet")),
    ),
    "tiny-folders": ("tiny-imagenet", tiny_folders),
}
