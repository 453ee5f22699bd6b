"""Images as one file each: the layout of Tiny ImageNet, and image folders too large for memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.data.files import Decoded, damaged, read_bytes, reason
from equipoise.data.images import centre_crop, decode, decode_all, exact, pool, require_pillow
from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError, StorageError

__all__ = ["FolderSplit", "image_folders", "read_tiny_train", "read_tiny_val"]

_SUFFIXES = (".jpeg", ".jpg", ".png")
_TINY = (3, 64, 64)


@dataclass(frozen=True, eq=False)
class FolderSplit(Split):
    """A split that stays on disk: ``batch`` decodes its images when they are asked for.

    images: int64 (N,), row numbers in ``paths``; labels: int64 (N,). Each image is resized so that its
    shorter side is size * 8 / 7, and its central size x size square is taken. The rest is as in ``Split``.
    """

    paths: tuple[str, ...] = ()
    size: int = 224

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        require_pillow()
        index = index.to(self.labels.device)
        names = [self.paths[row] for row in self.images.index_select(0, index).tolist()]
        fit = centre_crop(self.size)
        pixels = np.empty((len(names), self.size, self.size, 3), np.uint8)

        def work(row: int) -> None:
            pixels[row] = decode(read_bytes(Path(names[row])), 3, fit, lambda: names[row])

        with pool() as threads:
            list(threads.map(work, range(len(names))))
        images = torch.from_numpy(pixels).to(self.labels.device).permute(0, 3, 1, 2)
        return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255), self.labels[index]

    def check_images(self) -> None:
        """Raise InputError unless the rows point into the list of files, which ``batch`` alone reads."""
        rows = self.images
        if rows.dtype != torch.int64 or rows.ndim != 1 or bool(((rows < 0) | (rows >= len(self.paths))).any()):
            raise InputError(f"the rows of a FolderSplit must be int64 in 0..{len(self.paths) - 1}")


def image_folders(folder: str | Path, *, size: int = 224, name: str = "", note: str = "") -> Dataset:
    """A dataset of the files ``train/<class>/*`` and ``val/<class>/*`` in ``folder``, decoded batch by batch.

    ``val`` is the test split. Classes are the sorted folders of ``train``; files are .jpeg, .jpg or .png.
    Raises InputError when the layout is not there, StorageError for a class that is empty or not in train.
    """
    folder = Path(folder)
    if size < 1:
        raise InputError(f"images cannot have {size} pixels a side")
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
        splits.append(FolderSplit(torch.arange(len(paths)), torch.tensor(labels), paths=tuple(paths), size=size))
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
