"""Images as one file each: the layout of Tiny ImageNet, and image folders too large for memory."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.data.files import Decoded, damaged, read_bytes, reason
from equipoise.data.images import FITS, decode, decode_all, exact, pool, require_pillow
from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError, StorageError, unknown_name

__all__ = ["FolderSplit", "image_folders", "read_tiny_train", "read_tiny_val"]

_SUFFIXES = (".jpeg", ".jpg", ".png")
_TINY = (3, 64, 64)
# ImageNet's mean and standard deviation of red, green and blue, as everybody normalises by.
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class FolderSplit(Split):
    """A split that stays on disk: ``batch`` decodes its images when they are asked for.

    images: int64 (N,), row numbers in ``paths``; labels: int64 (N,). fit: "crop" resizes each image so that its
    shorter side is size * 8 / 7 and takes its central size x size square; "squash" resizes it whole to size x size.
    normalise: less ImageNet's mean, over its standard deviation, per colour. A file that is no usable image ends the
    run with its name, at the first batch that has it: nothing is left out in silence. The rest is as in ``Split``.
    """

    paths: tuple[str, ...] = ()
    size: int = 224
    fit: str = "crop"
    normalise: bool = False
    _asked: dict[int, Future[np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def ahead(self, index: Tensor) -> None:
        """Start to decode the samples in ``index``, which ``batch`` will ask for next; other starts are dropped."""
        require_pillow()
        rows = self._rows(index)
        for row in self._asked.keys() - set(rows):
            self._asked.pop(row).cancel()
        for row in rows:
            if row not in self._asked:
                self._asked[row] = _threads().submit(self._decoded, row)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        require_pillow()
        index = index.to(self.labels.device)
        rows = self._rows(index)
        started = {
            row: self._asked.pop(row, None) or _threads().submit(self._decoded, row) for row in dict.fromkeys(rows)
        }
        pixels = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        try:
            for place, row in enumerate(rows):
                pixels[place] = started[row].result()
        except BaseException:
            for one in started.values():
                one.cancel()
            raise
        images = torch.from_numpy(pixels).to(self.labels.device).permute(0, 3, 1, 2)
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.normalise:
            images.sub_(images.new_tensor(_MEAN)[:, None, None]).div_(images.new_tensor(_SD)[:, None, None])
        return images, self.labels[index]

    def _rows(self, index: Tensor) -> list[int]:
        return self.images.index_select(0, index.to(self.images.device)).tolist()

    def _decoded(self, row: int) -> np.ndarray:
        name = self.paths[row]
        return decode(read_bytes(Path(name)), 3, FITS[self.fit](self.size), lambda: name)

    def check_images(self) -> None:
        """Raise InputError unless the rows point into the list of files, which ``batch`` alone reads."""
        rows = self.images
        if rows.dtype != torch.int64 or rows.ndim != 1 or bool(((rows < 0) | (rows >= len(self.paths))).any()):
            raise InputError(f"the rows of a FolderSplit must be int64 in 0..{len(self.paths) - 1}")


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads that decode, for all splits: one a core, at most eight."""
    return pool()


def image_folders(
    folder: str | Path,
    *,
    size: int = 224,
    name: str = "",
    note: str = "",
    fit: str = "crop",
    normalise: bool = False,
) -> Dataset:
    """A dataset of the files ``train/<class>/*`` and ``val/<class>/*`` in ``folder``, decoded batch by batch.

    ``val`` is the test split. Classes are the sorted folders of ``train``; files are .jpeg, .jpg or .png. fit and
    normalise: as in ``FolderSplit``. Only a batch, and the next one, are ever in memory.
    Raises InputError when the layout is not there, StorageError for a class that is empty or not in train.
    """
    folder = Path(folder)
    if size < 1:
        raise InputError(f"images cannot have {size} pixels a side")
    if fit not in FITS:
        raise unknown_name("way to fit an image,", fit, FITS)
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise InputError(f"{folder} has no folder '{part}'; expected train/<class>/* and val/<class>/*")
    classes = _folders(folder / "train")
    splits = []
    for part in ("train", "val"):
        strange = sorted(set(_folders(folder / part)) - set(classes))
        if strange:
            raise damaged(folder / part, f"its class '{strange[0]}' is not in train")
        paths: list[str] = []
        labels: list[int] = []
        for label, wnid in enumerate(classes):
            members = _members(folder / part / wnid)
            paths += members
            labels += [label] * len(members)
        given = {"paths": tuple(paths), "size": size, "fit": fit, "normalise": normalise}
        splits.append(FolderSplit(torch.arange(len(paths)), torch.tensor(labels), **given))  # type: ignore[arg-type]
    return Dataset(name or folder.name, splits[0], splits[1], tuple(classes), note)


def read_tiny_train(paths: tuple[Path, ...]) -> Decoded:
    """Read ``train/<wnid>/images/*`` of Tiny ImageNet; ``paths`` is (the folder train,)."""
    classes = _folders(paths[0])
    files: list[Path] = []
    labels: list[int] = []
    for label, wnid in enumerate(classes):
        members = _members(paths[0] / wnid / "images")
        files += [Path(member) for member in members]
        labels += [label] * len(members)
    return Decoded(_decode(files), torch.tensor(labels), tuple(classes))


def read_tiny_val(paths: tuple[Path, ...]) -> Decoded:
    """Read ``val/images`` of Tiny ImageNet; ``paths`` is (val/val_annotations.txt, val/images).

    Lines of the annotations are: file, class, then a box that is not used, separated by tabs. Classes are
    numbered by the sorted folder names of ``train`` beside ``val``.
    """
    table, images = paths
    classes = _folders(table.parent.parent / "train")
    numbers = {wnid: label for label, wnid in enumerate(classes)}
    files: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(read_bytes(table).decode("utf-8", "replace").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in numbers:
            raise damaged(table, f"line {number} names no class that train has: {line[:60]!r}")
        files.append(images / Path(fields[0]).name)
        labels.append(numbers[fields[1]])
    return Decoded(_decode(files), torch.tensor(labels), tuple(classes))


def _decode(files: list[Path]) -> Tensor:
    return decode_all(
        len(files), lambda row: read_bytes(files[row]), _TINY, exact(_TINY), where=lambda row: str(files[row])
    )


def _folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, sorted; at least one."""
    names = sorted(entry.name for entry in _scan(folder) if entry.is_dir())
    if not names:
        raise damaged(folder, "it holds no class folders")
    return names


def _members(folder: Path) -> list[str]:
    """The image files in ``folder``, sorted; at least one."""
    members = sorted(entry.path for entry in _scan(folder) if entry.name.lower().endswith(_SUFFIXES))
    if not members:
        raise damaged(folder, f"it holds no images ({', '.join(_SUFFIXES)})")
    return members


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise StorageError(f"cannot list {folder}: {error.strerror or reason(error)}") from error
