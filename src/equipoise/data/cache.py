"""Decoded images kept in the user's cache folder, so that a set of JPEG or PNG files is decoded once.

One safetensors file per split under ``$XDG_CACHE_HOME/equipoise`` (else ``~/.cache/equipoise``), named after
the place of its source. Its header holds the fingerprint of the source (sizes and times) and a checksum. A
cache that is old, broken or unreadable is decoded anew; one that cannot be written is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from equipoise.data.files import Decoded, reason
from equipoise.errors import StorageError

__all__ = ["fingerprint", "folder", "through"]

_VERSION = 1


def folder() -> Path:
    """Where decoded images are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "equipoise"


def fingerprint(paths: Iterable[Path]) -> str:
    """A hash of the paths, sizes and modification times of these files, and of all files in these folders."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                seen = file.stat()
                digest.update(os.fsencode(file) + f"\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
    except OSError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror or reason(error)}") from error
    return digest.hexdigest()[:32]


def through(name: str, paths: tuple[Path, ...], source: str, read: Callable[[tuple[Path, ...]], Decoded]) -> Decoded:
    """What ``read(paths)`` gives, from the cache if it is there and still right, else decoded and kept.

    ``source`` is the fingerprint of everything that the result depends on; ``name`` begins the file's name.
    """
    places = b"\n".join(os.fsencode(path.absolute()) for path in paths)
    try:
        target = folder() / f"{name}-{hashlib.sha256(places).hexdigest()[:16]}.safetensors"
    except RuntimeError:  # no home folder
        return read(paths)
    kept = _restore(target, source)
    if kept is not None:
        return kept
    decoded = read(paths)
    _keep(target, source, decoded)
    return decoded


def _restore(target: Path, source: str) -> Decoded | None:
    """The cached table, or None if there is none that is whole and of this source."""
    try:
        with safe_open(target, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("equipoise", "{}"))
            if (about.get("version"), about.get("source")) != (_VERSION, source):
                return None
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
        if about["checksum"] != _checksum(images, labels):
            return None
        return Decoded(images, labels, tuple(about["classes"]), bool(about["jpeg"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(target: Path, source: str, decoded: Decoded) -> None:
    """Write the table to ``target`` in one step; leave nothing behind when that fails."""
    about: dict[str, Any] = {
        "version": _VERSION,
        "source": source,
        "checksum": _checksum(decoded.images, decoded.labels),
        "classes": decoded.classes,
        "jpeg": decoded.jpeg,
    }
    partial = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(suffix=".partial", dir=target.parent)
        os.close(handle)
        tensors = {"images": decoded.images, "labels": decoded.labels}
        save_file(tensors, partial, metadata={"equipoise": json.dumps(about)})
        os.replace(partial, target)
    except (OSError, SafetensorError):
        pass
    finally:
        if partial:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def _checksum(*tensors: torch.Tensor) -> int:
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(tensor.numpy().reshape(-1).data, checksum)
    return checksum
