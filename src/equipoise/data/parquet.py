"""Parquet files in the schema of the Hugging Face hub: images as ``{bytes, path}`` and integer labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from equipoise.data.files import Decoded, damaged, needs, read_bytes, reason
from equipoise.data.images import JPEG, decode_all, exact
from equipoise.errors import EquipoiseError

__all__ = ["read"]


def read(paths: tuple[Path, ...], *, image: str, label: str, shape: tuple[int, int, int]) -> Decoded:
    """Read the shards in ``paths``, one after the other; every image must have ``shape`` (C, H, W).

    Raises StorageError naming the file, and the row if one is at fault; InputError without pyarrow or pillow.
    """
    _check_shards(paths)
    tables = [_shard(path, image=image, label=label, shape=shape) for path in paths]
    return Decoded(
        torch.cat([table.images for table in tables]) if len(tables) > 1 else tables[0].images,
        torch.cat([table.labels for table in tables]),
        classes=tables[0].classes,
        jpeg=any(table.jpeg for table in tables),
    )


def _check_shards(paths: tuple[Path, ...]) -> None:
    """Refuse a set of ``train-00000-of-00005.parquet`` files that is not complete."""
    match = re.search(r"-of-(\d+)", paths[0].name)
    if match and len(paths) != int(match[1]):
        raise damaged(paths[0].parent, f"{len(paths)} of {int(match[1])} files like {paths[0].name} are there")


def _shard(path: Path, *, image: str, label: str, shape: tuple[int, int, int]) -> Decoded:
    encoded, labels, classes = _columns(path, image, label)
    if not labels:
        raise damaged(path, "it has no rows")
    for row, (content, number) in enumerate(zip(encoded, labels, strict=True)):
        if content is None or number is None:
            raise damaged(path, f"row {row} has no {'image bytes' if content is None else 'label'}")
    images = decode_all(len(labels), encoded.__getitem__, shape, exact(shape), where=lambda row: f"row {row} of {path}")
    jpeg = any(content.startswith(JPEG) for content in encoded)
    return Decoded(images, torch.tensor(labels, dtype=torch.int64), classes, jpeg)


def _columns(path: Path, image: str, label: str) -> tuple[list[bytes], list[int], tuple[str, ...]]:
    """The encoded images, the labels and the class names of one file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise needs("reading Parquet", "pyarrow", "data") from error
    content = pa.BufferReader(read_bytes(path))
    try:
        with pq.ParquetFile(content) as file:
            schema = file.schema_arrow
            absent = [name for name in (image, label) if name not in schema.names]
            if absent:
                raise damaged(path, f"it has no column '{absent[0]}', but {', '.join(schema.names) or 'none'}")
            kind = schema.field(image).type
            if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise damaged(path, f"its column '{image}' is {kind}, not a struct with the field 'bytes'")
            if not pa.types.is_binary(kind.field("bytes").type):
                raise damaged(path, f"its field '{image}.bytes' is {kind.field('bytes').type}, not binary")
            if not pa.types.is_integer(schema.field(label).type):
                raise damaged(path, f"its column '{label}' is {schema.field(label).type}, not an integer")
            table = file.read(columns=[f"{image}.bytes", label])
            encoded = [row for chunk in table.column(image).chunks for row in chunk.field("bytes").to_pylist()]
            return encoded, table.column(label).to_pylist(), _classes(schema.metadata, label)
    except EquipoiseError:
        raise
    except Exception as error:  # a broken file makes pyarrow raise many unrelated types
        raise damaged(path, f"it is no readable Parquet ({reason(error)})") from error


def _classes(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """The class names that the ``datasets`` package writes into a file's metadata, or nothing."""
    found: Any = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    for key in ("info", "features", label, "names"):
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return tuple(str(name) for name in found) if isinstance(found, list) else ()
