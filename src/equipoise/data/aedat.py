"""Recordings of the DVS128 camera: the formats AEDAT 3.1 and AEDAT 2.0, whose layouts their makers publish.

3.1 (https://docs.inivation.com, "AEDAT 3.1"): text lines up to ``#!END-HEADER``, then packets, little-endian. A packet
is a header of 28 bytes (type and source as 16-bit integers; size of an event, offset of its time, overflows of the
clock, capacity, number of events and of valid ones as 32-bit integers), then its events. A polarity event (type 1) is
32 bits of data (bit 0 valid, 1 ON, 2-16 row, 17-31 column) and a 32-bit time in microseconds.

2.0: text lines that begin with ``#``, then pairs of 32-bit integers, big-endian: address and time in microseconds. In
an address of the DVS128 bit 0 is the sign, 1-7 the column, 8-14 the row; higher bits mark what is no event of a pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from equipoise.data.files import damaged, read_bytes
from equipoise.data.frames import Events

__all__ = ["SENSOR", "read_2_0", "read_3_1"]

SENSOR = (128, 128)
_HEADER = np.dtype([("type", "<i2"), ("source", "<i2"), ("rest", "<i4", (6,))])
_POLARITY = 1
_LAST_LINE = b"#!END-HEADER"


def read_3_1(path: Path) -> Events:
    """All valid polarity events of an AEDAT 3.1 file; other packets are passed over.

    Raises ``StorageError`` naming the file when it is another format or is cut.
    """
    raw = read_bytes(path)
    _version(raw, path, b"3.1")
    end = raw.find(_LAST_LINE)
    place = raw.find(b"\n", end) + 1
    if end < 0 or not place:
        raise damaged(path, f"its header has no line {_LAST_LINE.decode()}")
    data: list[np.ndarray] = []
    times: list[np.ndarray] = []
    while place < len(raw):
        if len(raw) - place < _HEADER.itemsize:
            raise damaged(path, f"it ends inside the header of a packet, after {len(raw)} bytes")
        head = np.frombuffer(raw, _HEADER, 1, place)[0]
        size, _, overflow, _, count, _ = (int(number) for number in head["rest"])
        place += _HEADER.itemsize
        if size <= 0 or count < 0 or len(raw) - place < size * count:
            raise damaged(path, f"a packet promises {count} events of {size} bytes; {len(raw) - place} bytes are left")
        if head["type"] == _POLARITY:
            if size != 8:
                raise damaged(path, f"its polarity events have {size} bytes, not 8")
            pairs = np.frombuffer(raw, "<u4", 2 * count, place).reshape(-1, 2)
            pairs = pairs[pairs[:, 0] & 1 == 1]
            data.append(pairs[:, 0])
            times.append(pairs[:, 1].astype(np.int64) + (overflow << 31))
        place += size * count
    word = np.concatenate(data) if data else np.zeros(0, np.uint32)
    when = np.concatenate(times) if times else np.zeros(0, np.int64)
    return Events((word >> 17).astype(np.int64), ((word >> 2) & 0x7FFF).astype(np.int64), when, (word >> 1) & 1 == 1)


def read_2_0(path: Path) -> Events:
    """All pixels' events of an AEDAT 2.0 file of a DVS128, upright as the authors of CIFAR10-DVS show theirs.

    The column is 127 less the address's row, the row 127 less its column, and the sign's bit is 1 for OFF: so the
    set's own program (``dat2mat.m``) reads it, up to the exchange of axes that turns its pictures upright.
    Raises ``StorageError`` naming the file when it is another format or is cut.
    """
    raw = read_bytes(path)
    _version(raw, path, b"2.0")
    place = 0
    while raw[place : place + 1] == b"#":
        place = raw.find(b"\n", place) + 1
        if not place:
            raise damaged(path, "it ends inside its header")
    if (len(raw) - place) % 8:
        raise damaged(path, f"the {len(raw) - place} bytes behind its header are no whole number of events of 8 bytes")
    pairs = np.frombuffer(raw, ">i4", offset=place).reshape(-1, 2).astype(np.int64)
    pairs = pairs[pairs[:, 0] & ~0x7FFF == 0]
    word = pairs[:, 0]
    return Events(127 - ((word >> 8) & 127), 127 - ((word >> 1) & 127), pairs[:, 1], word & 1 == 0)


def _version(raw: bytes, path: Path, version: bytes) -> None:
    wanted = b"#!AER-DAT" + version
    if not raw.startswith(wanted):
        seen = raw[: len(wanted)].decode("ascii", "replace")
        raise damaged(path, f"it begins with {seen!r}, not with {wanted.decode()!r}")
