"""Event sets as the package tonic keeps them: its readers, behind our frames and splits.

tonic is licensed under the GPL, so it is an option (the extra ``events``), imported here alone and only when asked for.
What it has not downloaded is not fetched from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.files import needs, reason
from equipoise.data.frames import Events
from equipoise.errors import InputError, StorageError

__all__ = ["cifar10", "gestures"]

Reader = Callable[[Path, int], Iterable[tuple[Events, int]]]


def gestures(folder: Path, *, train: bool) -> tuple[tuple[tuple[Path, int], ...], Reader]:
    """The recordings of ``tonic.datasets.DVSGesture`` in ``folder`` with their labels, and what reads one."""
    part = "ibmGestureTrain" if train else "ibmGestureTest"
    found = _opened("DVSGesture", folder, f"{part}.tar.gz", part, train=train)
    items = sorted((Path(path), int(label)) for path, label in zip(found.data, found.targets, strict=True))
    return tuple(items), _reader(found)


def cifar10(folder: Path, classes: tuple[str, ...]) -> tuple[list[list[Path]], Reader]:
    """The recordings of ``tonic.datasets.CIFAR10DVS`` in ``folder``, a list for each class, and what reads one."""
    found = _opened("CIFAR10DVS", folder, "CIFAR10DVS.zip", classes[0])
    files: list[list[Path]] = [[] for _ in classes]
    for path in map(Path, found.data):
        files[classes.index(path.parent.name)].append(path)
    return files, _reader(found)


def _opened(name: str, folder: Path, archive: str, unpacked: str, **options: Any) -> Any:
    """The data set of tonic, whose archive and unpacked folder must be there: it would download them else."""
    for wanted in (folder / name / archive, folder / name / unpacked):
        if not wanted.exists():
            raise InputError(f"tonic's {wanted} is not there; tonic.datasets.{name}(save_to='{folder}') fetches it")
    try:
        from tonic import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise needs(f"reader=tonic of {name}", "tonic", "events") from error
    try:
        return getattr(datasets, name)(save_to=str(folder), **options)
    except Exception as error:  # it goes on to unpack, or to download, what it finds incomplete
        raise StorageError(f"tonic cannot open {folder / name} ({reason(error)}); let it fetch the set anew") from error


def _reader(found: Any) -> Reader:
    places = {Path(path): place for place, path in enumerate(found.data)}

    def read(path: Path, label: int) -> Iterator[tuple[Events, int]]:
        events = found[places[path]][0]
        x, y, t = (np.asarray(events[name], np.int64) for name in ("x", "y", "t"))
        yield Events(x, y, t, np.asarray(events["p"]).astype(bool)), label

    return read
