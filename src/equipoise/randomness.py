"""Seeds: every random number comes from a generator whose seed is derived from names and integers.

A stream is a function of what it is for (``derive(seed, "feedback", "layer1")``), never of what was drawn
before it. So nothing about randomness needs saving, ranks and populations agree, and adding a consumer
leaves the others' numbers as they were.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["derive", "generator"]


def derive(*key: int | str) -> int:
    """A 63-bit seed for the stream named by ``key``: SHA-256 of its parts, in order.

    >>> derive(0, "order", 1) == derive(0, "order", 1), derive(0, "order", 1) == derive(0, "order", 2)
    (True, False)
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh ``torch.Generator`` on ``device`` for the stream named by ``key``."""
    return torch.Generator(device=device).manual_seed(derive(*key))
