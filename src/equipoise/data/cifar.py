"""The binary files of CIFAR-10 and CIFAR-100.

A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3,072 pixels: the
red, the green and the blue plane of 32 x 32, row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from equipoise.data.files import Decoded, damaged, read_bytes

__all__ = ["read"]

_PIXELS = 3 * 32 * 32


def read(paths: tuple[Path, ...], *, label_bytes: int) -> Decoded:
    """Read the files one after the other; of two label bytes the second, the fine one, is the label.

    Raises StorageError for a file that is empty or no whole number of records.
    """
    record = label_bytes + _PIXELS
    parts = []
    for path in paths:
        raw = read_bytes(path)
        if len(raw) % record:
            raise damaged(path, f"its {len(raw)} bytes are no whole number of records of {record} bytes")
        parts.append(np.frombuffer(raw, np.uint8).reshape(-1, record))
    rows = np.concatenate(parts)
    images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).copy()
    return Decoded(torch.from_numpy(images), torch.from_numpy(rows[:, label_bytes - 1].astype(np.int64)))
