"""The IDX format of MNIST and its relatives, gzip-compressed or raw.

A file is the bytes 0, 0, 8 (unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
integer, then the values in row-major order.
"""

from __future__ import annotations

import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

from equipoise.data.files import Decoded, damaged, read_bytes, reason

__all__ = ["read"]

_GZIP = b"\x1f\x8b"


def read(paths: tuple[Path, ...]) -> Decoded:
    """Read (images file, labels file) into grey images (N, 1, H, W); StorageError names the bad file."""
    images_path, labels_path = paths
    images, labels = _array(images_path, 3), _array(labels_path, 1)
    if len(images) != len(labels):
        raise damaged(labels_path, f"it holds {len(labels)} labels, but {images_path.name} {len(images)} images")
    return Decoded(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))


def _array(path: Path, ndim: int) -> np.ndarray:
    """The array of ``ndim`` dimensions in one IDX file; unpacks no more than its header promises."""
    raw = read_bytes(path)
    header_size = 4 + 4 * ndim
    unzip = zlib.decompressobj(wbits=31) if raw.startswith(_GZIP) else None
    try:
        header = unzip.decompress(raw, header_size) if unzip else raw[:header_size]
        if header[:4] != bytes((0, 0, 8, ndim)):
            raise damaged(path, f"it begins with {header[:4].hex(' ')}, not with {bytes((0, 0, 8, ndim)).hex(' ')}")
        if len(header) < header_size:
            raise damaged(path, f"it ends inside its header, after {len(header)} bytes")
        shape = tuple(int(side) for side in np.frombuffer(header, ">u4", ndim, 4))
        size = math.prod(shape)
        body = unzip.decompress(unzip.unconsumed_tail, min(size + 1, sys.maxsize)) if unzip else raw[header_size:]
    except zlib.error as error:
        raise damaged(path, f"its gzip stream is broken ({reason(error)})") from error
    if size == 0:
        raise damaged(path, f"its header promises nothing: shape {shape}")
    if len(body) != size:
        has = "more" if len(body) > size else f"only {len(body)}"
        raise damaged(path, f"its header promises {size} bytes, shape {shape}, but it holds {has}")
    if unzip and (not unzip.eof or unzip.unused_data):
        raise damaged(path, "its gzip stream is cut off or has bytes after its end")
    return np.frombuffer(body, np.uint8).reshape(shape).copy()
