"""Event cameras' sets from their own files: DVS128 Gesture and CIFAR10-DVS, as frames with the usual splits."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from equipoise.data import aedat, cache, tonic
from equipoise.data.files import Decoded, damaged, read_bytes
from equipoise.data.frames import WAYS, Events, framed
from equipoise.data.labels import CIFAR10, GESTURES
from equipoise.data.sets import no_folder
from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError, unknown_name

__all__ = ["EventSet", "cifar10_dvs", "dvs_gesture"]

_READERS = ("own", "tonic")
_TRAINED = 23  # users 1 to 23 train, 24 to 29 test
_HELD = 0.1  # the last tenth of each class of CIFAR10-DVS
_VERSION = 1
_GESTURES_FROM = "; get it from research.ibm.com/interactive/dvsgesture (CC BY 4.0)"
_CIFAR10_FROM = "; get it from doi.org/10.6084/m9.figshare.4724671 (CC BY 4.0)"


@dataclass(frozen=True)
class EventSet:
    """What is asked of an event set; its fields are the loader's options.

    frames: T; by: "count" or "time"; size: pixels a side, from the camera's 128; reader: "own" for the set's own files,
    "tonic" for those that the package tonic keeps.
    """

    frames: int
    by: str
    size: int
    reader: str

    def __post_init__(self) -> None:
        if self.frames < 1 or not 1 <= self.size <= aedat.SENSOR[0]:
            raise InputError(
                f"an event set needs frames >= 1 and size from 1 to {aedat.SENSOR[0]}; got frames={self.frames}, "
                f"size={self.size}"
            )
        if self.by not in WAYS:
            raise unknown_name("way to make frames of events,", self.by, WAYS)
        if self.reader not in _READERS:
            raise unknown_name("reader of events,", self.reader, _READERS)


@dataclass(frozen=True)
class _Part:
    """A split's recordings with their labels, in order, and what reads one: (path, label) to samples with labels."""

    items: tuple[tuple[Path, int], ...]
    read: Callable[[Path, int], Iterable[tuple[Events, int]]]
    beside: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the split depends on."""
        return tuple(path for path, _ in self.items) + self.beside

    def samples(self) -> Iterator[tuple[Events, int]]:
        for path, label in self.items:
            yield from self.read(path, label)


def dvs_gesture(folder: Path | None, asked: EventSet) -> Dataset:
    """The gestures in ``folder``/dvs-gesture: users 1 to 23 train, users 24 to 29 test.

    Raises ``InputError`` when the recordings are not there, ``StorageError`` when one is damaged.
    """
    if folder is None:
        raise no_folder("dvs-gesture", _GESTURES_FROM)
    if asked.reader == "tonic":
        parts = [_Part(*tonic.gestures(folder, train=train)) for train in (True, False)]
        return _dataset("dvs-gesture", asked, parts, GESTURES, handed=True)
    roots = (folder / "dvs-gesture", folder / "dvs-gesture" / "DvsGesture", folder / "DvsGesture")
    found = next((files for root in roots if (files := sorted(root.glob("user*_*.aedat")))), [])
    users = {path: re.match(r"user(\d+)_", path.name) for path in found}
    parts = []
    for train in (True, False):
        files = [path for path, user in users.items() if user and (int(user[1]) <= _TRAINED) is train]
        parts.append(_Part(tuple((path, 0) for path in files), _gestures, tuple(_table(path) for path in files)))
    if not parts[0].items or not parts[1].items:
        raise InputError(
            f"dvs-gesture is not in {folder / 'dvs-gesture'}; expected there user01_fluorescent.aedat, "
            f"user01_fluorescent_labels.csv and so on, of users 1 to {_TRAINED} for training and {_TRAINED + 1} to 29 "
            f"for testing{_GESTURES_FROM}"
        )
    return _dataset("dvs-gesture", asked, parts, GESTURES, handed=True)


def cifar10_dvs(folder: Path | None, asked: EventSet) -> Dataset:
    """The recordings in ``folder``/cifar10-dvs, one folder a class: the last tenth of each, by number, is for testing.

    Nothing is shuffled. Raises ``InputError`` when they are not there, ``StorageError`` when one is damaged.
    """
    if folder is None:
        raise no_folder("cifar10-dvs", _CIFAR10_FROM)
    if asked.reader == "tonic":
        files, read = tonic.cifar10(folder, CIFAR10)
    else:
        read = _one
        root = next((folder / name for name in ("cifar10-dvs", "CIFAR10DVS") if (folder / name).is_dir()), None)
        files = [list((root / name).glob("*.aedat")) if root is not None else [] for name in CIFAR10]
        few = [name for name, members in zip(CIFAR10, files, strict=True) if len(members) < 2]
        if few:
            absent = f" (in {root / few[0]} are fewer than two recordings)" if root is not None else ""
            raise InputError(
                f"cifar10-dvs is not in {folder / 'cifar10-dvs'}{absent}; expected there "
                f"airplane/cifar10_airplane_0.aedat and so on, a folder for each class{_CIFAR10_FROM}"
            )
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for label, members in enumerate(files):
        members = sorted(members, key=lambda path: (int("0" + "".join(re.findall(r"\d+$", path.stem))), path))
        kept = len(members) - max(1, round(_HELD * len(members)))
        train += [(path, label) for path in members[:kept]]
        test += [(path, label) for path in members[kept:]]
    parts = [_Part(tuple(items), read) for items in (train, test)]
    return _dataset("cifar10-dvs", asked, parts, CIFAR10, handed=False)


def _dataset(name: str, asked: EventSet, parts: list[_Part], classes: tuple[str, ...], *, handed: bool) -> Dataset:
    digest = hashlib.sha256(repr((_VERSION, asked)).encode()).hexdigest()[:8]
    splits = []
    for kind, part in zip(("train", "test"), parts, strict=True):
        found = _framed(f"{name}-{kind}-{digest}", asked, part, cache.fingerprint(part.files))
        splits.append(Split(found.images, found.labels))
    note = f"events as {asked.frames} frames of equal {asked.by}, {asked.size} x {asked.size} pixels"
    return Dataset(name, splits[0], splits[1], classes, note, handed=handed)


@lru_cache(maxsize=4)
def _framed(name: str, asked: EventSet, part: _Part, source: str) -> Decoded:
    """A split's frames, from memory, the cache on disk, or the recordings; ``source`` is their fingerprint."""

    def read(_: tuple[Path, ...]) -> Decoded:
        return framed(part.samples(), frames=asked.frames, by=asked.by, size=asked.size, sensor=aedat.SENSOR)

    return cache.through(name, part.files, source, read)


def _one(path: Path, label: int) -> Iterator[tuple[Events, int]]:
    """The one sample of a recording of CIFAR10-DVS."""
    yield _not_empty(aedat.read_2_0(path), path), label


def _gestures(path: Path, _: int) -> Iterator[tuple[Events, int]]:
    """The samples of one trial, as its table says: class (from 1), start and end in microseconds, end not included.

    A range that reaches into the next one, as one of the published tables has it, ends where the next one starts.
    """
    table = _table(path)
    events = aedat.read_3_1(path)
    lines = list(csv.reader(io.StringIO(read_bytes(table).decode("utf-8", "replace"))))[1:]
    ranges: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines, 2):
        try:
            label, start, end = (int(field) for field in line)
        except ValueError:
            raise damaged(table, f"line {number} is no class, start and end: {','.join(line)[:60]!r}") from None
        if not 1 <= label <= len(GESTURES) or end <= start:
            raise damaged(table, f"line {number} has the class {label} from {start} to {end}")
        ranges.append((start, end, label - 1))
    if not ranges:
        raise damaged(table, "it names no gesture")
    ranges.sort()
    for place, (start, end, label) in enumerate(ranges):
        following = ranges[place + 1][0] if place + 1 < len(ranges) else end
        yield _not_empty(events.between(start, min(end, following)), path), label


def _not_empty(events: Events, path: Path) -> Events:
    if not len(events):
        raise damaged(path, "a sample has no events")
    return events


def _table(path: Path) -> Path:
    """The file of a trial's labels."""
    return path.with_name(f"{path.stem}_labels.csv")
