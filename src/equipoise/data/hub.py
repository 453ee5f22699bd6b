"""Fetching a set from the Hugging Face hub into the files that the readers expect.

It needs a network and the extra ``hub`` (the package ``datasets``), which is imported here alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from equipoise.data.catalogue import loaders
from equipoise.data.files import needs, reason
from equipoise.data.sets import ImageSet
from equipoise.errors import InputError, StorageError, unknown_name

__all__ = ["SOURCES", "Source", "fetch"]


@dataclass(frozen=True)
class Source:
    """A repository of the hub, and which of its splits becomes which file."""

    repository: str
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train.parquet", "test": "test.parquet"})


SOURCES: dict[str, Source] = {
    "mnist": Source("ylecun/mnist"),
    "fashion-mnist": Source("zalando-datasets/fashion_mnist"),
    "cifar10": Source("uoft-cs/cifar10"),
    "cifar100": Source("uoft-cs/cifar100"),
    "tiny-imagenet": Source("zh-plus/tiny-imagenet", {"train": "train.parquet", "valid": "valid.parquet"}),
}


def fetch(name: str, folder: str | Path) -> Path:
    """Download the set ``name`` into ``folder``/``name`` as Parquet, and return that folder.

    A set that is there already, in any layout, is left alone. Each file appears whole or not at all, so a
    second call goes on where a broken one stopped. Raises InputError for a set that cannot be fetched or a
    missing package, StorageError when the download or the writing fails.
    """
    if name in loaders and name not in SOURCES:
        made = {"digits": "it is embedded", "moving-digits": "it is made from mnist, fetch that"}
        hint = made.get(name, "see `equipoise list` for what it expects")
        raise InputError(f"{name} cannot be fetched: {hint}; fetchable are {', '.join(sorted(SOURCES))}")
    if name not in SOURCES:
        raise unknown_name("dataset", name, SOURCES)
    folder = Path(folder).expanduser()
    loader = loaders[name]
    found = loader.find(folder) if isinstance(loader, ImageSet) else None
    if found is not None:
        return found.train[0].parent
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise needs(f"fetching {name}", "datasets", "hub") from error
    source, target = SOURCES[name], folder / name
    for split, file in source.splits.items():
        final, partial = target / file, target / f".{file}.partial"
        if final.exists():
            continue
        try:
            target.mkdir(parents=True, exist_ok=True)
            load_dataset(source.repository, split=split).to_parquet(str(partial))
            os.replace(partial, final)
        except Exception as error:  # network, hub and disk fail with unrelated types
            raise StorageError(
                f"fetching {name} ({source.repository}, split {split}) into {target} failed: {reason(error)}"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    return target
