"""A switch for checks that cost something: off in the hot path, on while one hunts a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["debug", "debugging"]

_enabled = False


@contextmanager
def debug(enabled: bool = True) -> Iterator[None]:
    """Within the block, rules and circuits check their inputs: finite values, label ranges, dtypes."""
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def debugging() -> bool:
    """Whether the checks are on."""
    return _enabled
