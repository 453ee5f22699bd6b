"""The datasets by name: what they are, and how one is loaded.

To add a set from outside the package: ``data.register("mine")(loader)``, where ``loader(folder)`` takes the
data folder (a ``Path``, or None when none is given) and returns what a user's own function may return. The
first line of its docstring is its description.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.data import cifar, events, folders, idx, moving, parquet, sequences
from equipoise.data.digits import digits
from equipoise.data.labels import CIFAR10, CIFAR100, DIGITS, FASHION, TINY
from equipoise.data.sets import ImageSet, Layout, no_folder
from equipoise.data.types import Dataset
from equipoise.data.user import as_dataset, from_path
from equipoise.errors import InputError
from equipoise.registry import Registry

__all__ = ["describe", "load", "loaders", "names", "register"]

Loader = Callable[..., Any]
loaders: Registry[Loader] = Registry("dataset")


def load(name: str, *, folder: str | Path | None = None) -> Dataset:
    """The dataset called ``name``, or what the function ``package.module:function`` returns.

    ``folder`` holds the sets that are files, each in a folder of its own name; without it the environment
    variable EQUIPOISE_DATA is used, and without that only embedded sets can be had. The two sets loaded last
    stay in memory, so their tensors are shared: do not write into them. Options of a loader, its keyword arguments,
    stand behind a comma, as in ``imagenet,size=64,fit=squash``. ``rows:NAME`` is the set NAME, its pictures a row at a
    time.
    Raises InputError for an unknown or missing set or option, StorageError for a damaged file.
    """
    if not isinstance(name, str):
        raise InputError(f"a dataset is named by a string, not by {type(name).__name__}")
    kind, _, rest = name.partition(":")
    if kind == "rows" and rest:
        return as_dataset(sequences.rows(load(rest, folder=folder), name), name)
    if ":" in name:
        return from_path(name)
    base, *words = name.split(",")
    loader = loaders[base]
    given = _options(base, loader, words)
    place = folder if folder is not None else os.environ.get("EQUIPOISE_DATA") or None
    return as_dataset(loader(None if place is None else Path(place).expanduser(), **given), name)


def _options(name: str, loader: Loader, words: list[str]) -> dict[str, Any]:
    """Keyword arguments of ``loader`` from KEY=VALUE words, each in the type of its default; yes and no switch."""
    if not words:
        return {}
    parameters = inspect.signature(loader).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    found: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in defaults or not text:
            known = ", ".join(f"{one}={default}" for one, default in defaults.items()) or "none"
            raise InputError(
                f"dataset '{name}' has no option '{word}'; options are KEY=VALUE, here with defaults: {known}"
            )
        kind = type(defaults[key])
        try:
            found[key] = {"yes": True, "no": False}[text] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise InputError(f"dataset '{name}': '{text}' is no value of {key}") from None
    return found


def names() -> tuple[str, ...]:
    """The names of all datasets, sorted."""
    return tuple(loaders)


def describe(name: str) -> str:
    """One line about a dataset, options or not: its title, or the first line of its loader's docstring."""
    loader = loaders[name.partition(":")[0].partition(",")[0]]
    if isinstance(loader, ImageSet):
        return loader.title
    return (inspect.getdoc(loader) or "").partition("\n")[0]


def register(name: str) -> Callable[[Loader], Loader]:
    """Enter the decorated loader under ``name``; a name that is taken, or holds a colon, is refused."""
    if not name or ":" in name or "," in name:
        raise InputError(f"'{name}' cannot name a dataset: a colon means package.module:function, a comma options")
    return loaders.register(name)


def _parquet(image: str, label: str, shape: tuple[int, int, int], *, test: str = "test") -> Layout:
    read = partial(parquet.read, image=image, label=label, shape=shape)
    train, other = ((f"{part}.parquet", f"{part}-*-of-*.parquet") for part in ("train", test))
    return Layout("Parquet", (train,), (other,), read, read, slow=True)


def _idx() -> Layout:
    train, test = (
        tuple((f"{part}-{kind}-ubyte.gz", f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        for part in ("train", "t10k")
    )
    return Layout("IDX, gzip or raw", train, test, idx.read, idx.read)


def _binary(train: tuple[str, ...], test: str, label_bytes: int) -> Layout:
    read = partial(cifar.read, label_bytes=label_bytes)
    return Layout("binary", tuple((name,) for name in train), ((test,),), read, read)


_GREY, _SMALL = (1, 28, 28), (3, 32, 32)
_SETS = (
    ImageSet(
        "mnist",
        "MNIST handwritten digits, 1x28x28 grey, 10 classes, 60,000 + 10,000 images",
        DIGITS,
        (_idx(), _parquet("image", "label", _GREY)),
        ("mnist",),
    ),
    ImageSet(
        "fashion-mnist",
        "Fashion-MNIST clothes, 1x28x28 grey, 10 classes, 60,000 + 10,000 images",
        FASHION,
        (_idx(), _parquet("image", "label", _GREY)),
        ("fashion-mnist",),
    ),
    ImageSet(
        "cifar10",
        "CIFAR-10 photographs, 3x32x32, 10 classes, 50,000 + 10,000 images",
        CIFAR10,
        (
            _binary(tuple(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin", 1),
            _parquet("img", "label", _SMALL),
        ),
        ("cifar10", "cifar-10-batches-bin"),
    ),
    ImageSet(
        "cifar100",
        "CIFAR-100 photographs, 3x32x32, 100 (fine) classes, 50,000 + 10,000 images",
        CIFAR100,
        (_binary(("train.bin",), "test.bin", 2), _parquet("img", "fine_label", _SMALL)),
        ("cifar100", "cifar-100-binary"),
    ),
    ImageSet(
        "tiny-imagenet",
        "Tiny ImageNet photographs, 3x64x64, 200 classes, 100,000 + 10,000 images",
        TINY,
        (
            Layout(
                "image folders",
                (("train",),),
                (("val/val_annotations.txt",), ("val/images",)),
                folders.read_tiny_train,
                folders.read_tiny_val,
                slow=True,
            ),
            _parquet("image", "label", (3, 64, 64), test="valid"),
        ),
        ("tiny-imagenet", "tiny-imagenet-200"),
        lossless=False,
        note="tested on the published validation images: the test labels are not public",
    ),
)
for _set in _SETS:
    register(_set.name)(_set)
register("digits")(digits)


@register("rows")
def _rows(folder: Path | None) -> Dataset:
    """rows:NAME: the pictures of the set NAME a row at a time, each a sequence (T = H, C W) from the top."""
    raise InputError("rows shows another set's pictures a row at a time: name that set, as in rows:fashion-mnist")


@register("moving-digits")
def _moving_digits(
    folder: Path | None,
    *,
    frames: int = 10,
    size: int = 34,
    threshold: float = 0.2,
    label: str = "digit",
    samples: int = 20000,
    seed: int = 0,
) -> Dataset:
    """Events of MNIST's digits in motion, Tx2x34x34 frames from mnist, 10 digits or 8 directions (label=direction).

    The options are those of ``data.moving.moving_digits``.
    """
    mnist = loaders["mnist"]
    options = {"frames": frames, "size": size, "threshold": threshold, "label": label, "samples": samples}
    return moving.moving_digits(mnist, folder, **options, seed=seed)  # type: ignore[arg-type]


@register("dvs-gesture")
def _dvs_gesture(
    folder: Path | None, *, frames: int = 16, by: str = "count", size: int = 48, reader: str = "own"
) -> Dataset:
    """DVS128 Gesture, Tx2x48x48 frames of an event camera, 11 gestures, users 1-23 and 24-29 (AEDAT 3.1 files)."""
    return events.dvs_gesture(folder, events.EventSet(frames, by, size, reader))


@register("cifar10-dvs")
def _cifar10_dvs(
    folder: Path | None, *, frames: int = 10, by: str = "count", size: int = 48, reader: str = "own"
) -> Dataset:
    """CIFAR10-DVS, Tx2x48x48 frames of an event camera, 10 classes, 9,000 + 1,000 recordings (AEDAT 2.0 files)."""
    return events.cifar10_dvs(folder, events.EventSet(frames, by, size, reader))


@register("imagenet")
def _imagenet(
    folder: Path | None, *, size: int = 224, fit: str = "crop", normalise: bool = False, name: str = "imagenet"
) -> Dataset:
    """ImageNet (ILSVRC 2012) photographs, 3x224x224, 1,000 classes, image folders decoded batch by batch.

    Any other folder of ``train/<class>/*`` and ``val/<class>/*`` in the data folder, by ``name``; other sizes by
    ``size``; ``fit`` and ``normalise`` are those of ``data.image_folders``.
    """
    place = "; it is licensed, get it from image-net.org"
    if folder is None:
        raise no_folder("imagenet", place)
    root = folder / name
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise InputError(
            f"{name} is not in {root}; expected there train/<wnid>/*.JPEG and val/<wnid>/*.JPEG"
            + (f"{place} and sort its validation images into one folder per class" if name == "imagenet" else "")
        )
    note = "tested on the published validation images: the test labels are not public" if name == "imagenet" else ""
    return folders.image_folders(root, size=size, name=name, note=note, fit=fit, normalise=normalise)
