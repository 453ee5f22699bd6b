"""The checkpoint ``state.pt``: a plain dict of tensors and numbers that knows whether it is whole.

The file is what ``torch.save`` writes (``torch.load(path, weights_only=True)`` reads it) with the SHA-256 of
its bytes in the comment field that a zip archive has at its end. Torch itself notices few flipped bits.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from equipoise.errors import StorageError
from equipoise.train import storage

__all__ = ["FORMAT", "discard", "exists", "load", "save"]

FORMAT = 1
_NAME = "state.pt"
_PREVIOUS = "state.pt.prev"
_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` atomically; the checkpoint before it stays as ``state.pt.prev``."""
    buffer = io.BytesIO()
    torch.save({**state, "format": FORMAT}, buffer)
    storage.write_bytes(folder / _NAME, _seal(buffer.getvalue()), previous=True)


def _seal(archive: bytes) -> bytes:
    """The archive with its digest as comment: the last two bytes of a zip are the comment's length."""
    body = archive[:-2] + struct.pack("<H", _COMMENT)
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def _open(path: Path) -> dict[str, Any]:
    """The state in ``path``; ``StorageError`` when a byte is missing or changed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"'{path}' cannot be read ({error.strerror})") from None
    body, comment = content[:-_COMMENT], content[-_COMMENT:]
    if comment != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise StorageError(f"'{path}' is damaged")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise StorageError(f"'{path}' is whole but torch cannot load it ({' '.join(str(error).split())})") from None
    if state.get("format") != FORMAT:
        raise StorageError(f"'{path}' has format {state.get('format')}; this version reads {FORMAT}")
    return state


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint, whole or not."""
    return (folder / _NAME).exists() or (folder / _PREVIOUS).exists()


def load(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The newest whole checkpoint (None where there is none) and a note, which is empty when all is well.

    A damaged ``state.pt`` is replaced by ``state.pt.prev``, so that the next write cannot lose the good one.
    Raises ``StorageError`` when neither is whole.
    """
    newest, previous = folder / _NAME, folder / _PREVIOUS
    if not exists(folder):
        return None, ""
    try:
        return _open(newest), ""
    except StorageError as error:
        trouble = str(error)
    try:
        state = _open(previous)
    except StorageError:
        raise StorageError(
            f"no whole checkpoint in '{folder}': {trouble}, and so is the one before; start anew with --force"
        ) from None
    # A kill between the two renames of a write leaves only the previous file: it is simply the newest.
    note = f"{trouble}; the checkpoint before it is used" if newest.exists() else ""
    try:
        os.replace(previous, newest)
    except OSError as error:
        raise StorageError(f"cannot put '{previous}' in the place of '{newest}': {error.strerror}") from None
    return state, note


def discard(folder: Path) -> None:
    """Remove the checkpoints, as a finished run needs none."""
    for name in (_NAME, _PREVIOUS):
        (folder / name).unlink(missing_ok=True)
