"""Files that are whole or as they were: atomic writes, JSON with clear errors, weights as safetensors."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.errors import InputError, StorageError
from equipoise.train.checks import load_json

__all__ = [
    "append_line",
    "finite",
    "make_folder",
    "read_json",
    "read_lines",
    "read_text",
    "read_weights",
    "write_bytes",
    "write_json",
    "write_lines",
    "write_weights",
]


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents where they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the folder '{folder}': {_reason(error)}") from None


def write_bytes(path: Path, content: bytes, *, previous: bool = False) -> None:
    """Replace ``path`` by ``content`` so that a crash at any moment leaves the old file or the new one.

    A temporary file in the same folder is written, synced and renamed. With ``previous`` the old file stays
    as ``<name>.prev``. Raises ``StorageError`` and keeps the old file when the write fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            os.replace(path, path.with_name(path.name + ".prev"))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write '{path}': {_reason(error)}; what was there is kept") from None
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the platform can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_text(path: Path) -> str:
    """The text of ``path``, or a ``StorageError`` that says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {_reason(error)}") from None
    except UnicodeDecodeError as error:
        raise StorageError(f"'{path}' is damaged: byte {error.start} is not text") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` atomically; a number that is not finite becomes null, as JSON has no other."""
    write_bytes(path, (json.dumps(finite(value), indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The table in ``path``; a ``StorageError`` when it is missing, truncated or no table."""
    try:
        value = load_json(read_text(path), what=f"'{path}'")
    except InputError as error:
        raise StorageError(f"{error}; it is damaged or was edited") from None
    if not isinstance(value, dict):
        raise StorageError(f"'{path}' holds a {type(value).__name__}; expected a table")
    return value


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    text = "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in rows)
    write_bytes(path, text.encode())


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one JSON object to a JSONL file; what a failed write left of it is taken back."""
    line = (json.dumps(finite(row), allow_nan=False) + "\n").encode()
    try:
        with open(path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise StorageError(f"cannot add to '{path}': {_reason(error)}; what was there is kept") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; a ``StorageError`` names the line that does not parse."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = load_json(line, what=f"line {number} of '{path}'")
        except InputError as error:
            raise StorageError(f"{error}; the file is truncated or was edited") from None
        if not isinstance(row, dict):
            raise StorageError(f"line {number} of '{path}' is no table; the file was edited")
        rows.append(row)
    return rows


def finite(value: Any) -> Any:
    """``value`` with every float that is not finite replaced by None, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def write_weights(path: Path, weights: Mapping[str, Any]) -> None:
    """Write a state dict's tensors as safetensors, atomically; tied ones are written under each name."""
    from safetensors.torch import save

    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in weights.items()
        if isinstance(value, torch.Tensor)
    }
    write_bytes(path, save(tensors))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``weights.safetensors``, on the CPU, ready for ``load_state_dict``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise StorageError(f"cannot read the weights '{path}': {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
