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


Event = tuple[int, int, int, bool]  # column, row, microseconds, ON


def aedat3(events: Sequence[Event], *, packet: int = 3, invalid: Sequence[int] = (), extra: bytes = b"") -> bytes:
    """An AEDAT 3.1 file: packets of so many polarity events, those numbered in ``invalid`` marked so; a packet of
    another kind first, and ``extra`` at the end."""
    text = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-01-01 00:00:00 (TZ+0100)\r\n"
    body = struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + struct.pack("<Ii", 0x0A01, 5)
    for start in range(0, len(events), packet):
        part = events[start : start + packet]
        overflow = part[0][2] >> 31
        body += struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(part), len(part), len(part))
        for place, (x, y, t, on) in enumerate(part, start):
            body += struct.pack("<II", x << 17 | y << 2 | on << 1 | (place not in invalid), t & 0x7FFFFFFF)
    return text + b"#!END-HEADER\r\n" + body + extra


def aedat2(events: Sequence[Event], *, outside: bool = False) -> bytes:
    """An AEDAT 2.0 file of a DVS128 whose pictures stand as CIFAR10-DVS's do; ``outside``: with an external event."""
    body = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    for x, y, t, on in events:
        body += struct.pack(">ii", (127 - x) << 8 | (127 - y) << 1 | (not on), t)
    return body + (struct.pack(">ii", 0x8000, 1) if outside else b"")


def recording(count: int, *, seed: int = 0, start: int = 0, length: int = 1000) -> list[Event]:
    """Random events of a sensor of 128 x 128 pixels, in the order of their times."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(start, start + length, count))
    places, signs = random.integers(0, 128, (count, 2)), random.integers(0, 2, count)
    return [(int(x), int(y), int(t), bool(on)) for (x, y), t, on in zip(places, times, signs, strict=True)]


def gestures(folder: Path, users: Sequence[int] = (1, 23, 24, 29), *, gestures: int = 2) -> dict[int, list[Event]]:
    """DVS128 Gesture of these users: ``gestures`` samples each, of classes 1, 2, ...; their events by user."""
    folder.mkdir(parents=True)
    made = {}
    for user in users:
        made[user] = recording(60 * gestures, seed=user, length=1000 * gestures)
        (folder / f"user{user:02d}_led.aedat").write_bytes(aedat3(made[user]))
        lines = [f"{number + 1},{1000 * number},{1000 * (number + 1)}" for number in range(gestures)]
        (folder / f"user{user:02d}_led_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *lines]))
    return made


def cifar10_dvs(folder: Path, classes: Sequence[str], *, count: int = 3) -> dict[tuple[str, int], list[Event]]:
    """CIFAR10-DVS: ``count`` recordings of each class; their events by class and number."""
    made = {}
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            made[name, number] = recording(40, seed=100 * place + number)
            (folder / name / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2(made[name, number], outside=True))
    return made
