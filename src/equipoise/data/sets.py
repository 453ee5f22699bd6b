"""A named set of images in files: where they are looked for, in which layouts, and how they become splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.data import cache
from equipoise.data.files import Decoded, damaged
from equipoise.data.types import Dataset, Split
from equipoise.errors import InputError

__all__ = ["Found", "ImageSet", "Layout", "forget", "no_folder"]

# The sets that stay in memory for a second `load` of the same unchanged files.
_REMEMBERED = 2
_CHUNK = 2048
_JPEG_NOTE = (
    "JPEG-compressed copies of the original pixels: accuracies can differ by a fraction of a point from the original"
)


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies on disk.

    train, test: the files that the reader is given; each is a tuple of alternatives (glob patterns), of which
    the first that exists counts. slow: whether reading means decoding, so that the result is worth keeping.
    """

    title: str
    train: tuple[tuple[str, ...], ...]
    test: tuple[tuple[str, ...], ...]
    read_train: Callable[[tuple[Path, ...]], Decoded]
    read_test: Callable[[tuple[Path, ...]], Decoded]
    slow: bool = False

    def __str__(self) -> str:
        return ", ".join(alternatives[0] for alternatives in (*self.train, *self.test)) + f" ({self.title})"


@dataclass(frozen=True)
class Found:
    """The files of a layout that is complete."""

    layout: Layout
    train: tuple[Path, ...]
    test: tuple[Path, ...]


@dataclass(frozen=True)
class ImageSet:
    """A loader of one named set. folders: the names of its folder inside the data folder; the first is ours.

    lossless: whether the original pixels are exact, so that a JPEG copy of them is to be announced.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    layouts: tuple[Layout, ...]
    folders: tuple[str, ...]
    lossless: bool = True
    note: str = ""

    def __call__(self, folder: Path | None, *, size: int = 0) -> Dataset:
        """Load the set from ``folder``; InputError when it is not there, StorageError when it is damaged.

        size: pixels a side that every image is resized to, bilinear, smaller ones as means (antialiased); 0: as it is.
        """
        if size < 0:
            raise InputError(f"images cannot have {size} pixels a side; 0 leaves them as they are")
        if folder is None:
            raise no_folder(self.name, f"; `equipoise fetch {self.name} --data-dir DIR` downloads it")
        found = self.find(folder)
        if found is None:
            raise self._missing(folder)
        source = cache.fingerprint(found.train + found.test)
        return _sized(self, found, source, size) if size else _load(self, found, source)

    def find(self, folder: Path) -> Found | None:
        """The files of the first layout that is complete, or None."""
        for root in self._roots(folder):
            for layout in self.layouts:
                train = [_first(root, alternatives) for alternatives in layout.train]
                test = [_first(root, alternatives) for alternatives in layout.test]
                if all(train) and all(test):
                    return Found(layout, sum(train, ()), sum(test, ()))
        return None

    def _roots(self, folder: Path) -> list[Path]:
        return [folder / name for name in self.folders]

    def _missing(self, folder: Path) -> InputError:
        """The one line for a set that is not there, or not all there."""
        absent = ""
        for root in self._roots(folder):
            for layout in self.layouts:
                wanted = (*layout.train, *layout.test)
                gone = [alternatives[0] for alternatives in wanted if not _first(root, alternatives)]
                if len(gone) < len(wanted) and not absent:
                    absent = f" (in {root} only {', '.join(gone)} is missing)"
        return InputError(
            f"{self.name} is not in {folder / self.folders[0]}{absent}; expected there "
            f"{' or '.join(map(str, self.layouts))}; fetch it with "
            f"`equipoise fetch {self.name} --data-dir {folder}`"
        )


def no_folder(name: str, hint: str = "") -> InputError:
    """The error for a set that needs files when no data folder is named."""
    return InputError(
        f"{name} needs a data folder, and none is given: use --data-dir DIR (in Python folder=DIR) "
        f"or set EQUIPOISE_DATA{hint}"
    )


def _first(root: Path, alternatives: tuple[str, ...]) -> tuple[Path, ...]:
    """All paths in ``root`` that the first fruitful pattern matches, sorted; empty if none does."""
    for pattern in alternatives:
        paths = tuple(sorted(root.glob(pattern)))
        if paths:
            return paths
    return ()


@lru_cache(maxsize=_REMEMBERED)
def _load(images: ImageSet, found: Found, source: str) -> Dataset:
    """Read both splits. ``source``, their fingerprint, makes a changed file a new key of the memory."""
    layout = found.layout
    tables = []
    for part, paths, read in (
        ("train", found.train, layout.read_train),
        ("test", found.test, layout.read_test),
    ):
        if layout.slow:
            tables.append(cache.through(f"{images.name}-{part}", paths, source, read))
        else:
            tables.append(read(paths))
    train, test = tables
    if train.classes != test.classes:
        raise damaged(found.test[0], f"its classes are not those of {found.train[0]}")
    classes = train.classes or images.classes
    for table, paths in ((train, found.train), (test, found.test)):
        wrong = (table.labels < 0) | (table.labels >= len(classes))
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            label = int(table.labels[row])
            raise damaged(paths[-1], f"label {label} of image {row} is outside 0..{len(classes) - 1}")
    if train.images.shape[1:] != test.images.shape[1:]:
        seen = f"{tuple(test.images.shape[1:])}, those of {found.train[0].name} {tuple(train.images.shape[1:])}"
        raise damaged(found.test[0], f"its images have shape {seen}")
    notes = [images.note, _JPEG_NOTE if images.lossless and (train.jpeg or test.jpeg) else ""]
    return Dataset(
        images.name,
        Split(train.images, train.labels),
        Split(test.images, test.labels),
        classes,
        "; ".join(note for note in notes if note),
    )


@lru_cache(maxsize=_REMEMBERED)
def _sized(images: ImageSet, found: Found, source: str, size: int) -> Dataset:
    """The set with its images resized."""
    whole = _load(images, found, source)
    train, test = (
        Split(torch.cat([_resized(part, size) for part in split.images.split(_CHUNK)]), split.labels)
        for split in (whole.train, whole.test)
    )
    note = f"resized from {whole.shape[1]} x {whole.shape[2]} to {size} x {size} pixels"
    return replace(whole, train=train, test=test, note="; ".join(one for one in (whole.note, note) if one))


def _resized(images: Tensor, size: int) -> Tensor:
    """uint8 (N, C, H, W) as (N, C, size, size)."""
    found = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return found.round().clamp(0, 255).to(torch.uint8)


def forget() -> None:
    """Drop the remembered sets, so that the next load reads their files again."""
    _load.cache_clear()
    _sized.cache_clear()
