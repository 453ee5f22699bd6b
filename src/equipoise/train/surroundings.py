"""What a run finds around it and leaves as it found it, whatever a user's model or data did to it meanwhile."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["kept", "threads"]


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _put_environment(words: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(words)


def _numbers() -> bytes:
    return pickle.dumps(np.random.get_state())  # noqa: NPY002 - the global generator is what users' code may draw from


def _put_numbers(state: bytes) -> None:
    np.random.set_state(pickle.loads(state))  # noqa: NPY002


# How a setting is read, and how it is put back.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (_deterministic, lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])),
    (random.getstate, random.setstate),
    (_numbers, _put_numbers),
    (lambda: dict(os.environ), _put_environment),
    (os.getcwd, os.chdir),
)


@contextlib.contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Leave torch's and Python's settings, generators (also of ``device``), environment and folder as they were."""
    before = [read() for read, _ in _SETTINGS]
    others: dict[str, Any] = {"devices": []}
    if device.type != "cpu":
        others = {"devices": [device], "device_type": device.type}
    try:
        with torch.random.fork_rng(**others):
            yield
    finally:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within the block torch has ``count`` threads; its own number where that is None."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
