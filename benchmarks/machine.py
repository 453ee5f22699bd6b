"""The machine under the benchmark: its memory touched, its rates, and who else is using it."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

TOUCHED_BYTES = 2**30
BUSY_OTHERS = 0.10  # cores; above it the timings are not to be trusted
NOISE = 0.025  # by how much two copies of one step differ on an idle machine


def touch_memory(size: int = TOUCHED_BYTES) -> None:
    """Write every page once: on a virtual machine the first touch of a page is tens of times slower."""
    block = torch.empty(size, dtype=torch.uint8)
    block.fill_(1)


def describe() -> dict[str, str | int]:
    """What a number depends on, without naming the machine."""
    return {
        "device": f"cpu ({platform.machine()}, {os.cpu_count()} cores)",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Rates:
    """What the machine does per second at best: floating-point operations of a product, bytes of a stream."""

    flops: float
    bytes: float


@cache
def rates(threads: int) -> Rates:
    """The best of several products (64 x 1024 x 1024) and of several streams through 128 MiB."""
    left, right = torch.randn(64, 1024), torch.randn(1024, 1024)
    out = torch.empty(64, 1024)
    product = _best(lambda: torch.mm(left, right, out=out), 200)
    source, target = torch.ones(2**24), torch.ones(2**24)
    stream = _best(lambda: target.copy_(source), 20)
    return Rates(flops=2 * 64 * 1024 * 1024 / product, bytes=2 * source.nbytes / stream)


def _best(work, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


class Watch:
    """Counts the cores that other processes use while one measures: all busy time less one's own.

    Where the system does not tell (no ``/proc/stat``) the load average less one's own threads stands in.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def others(self) -> float:
        """Mean number of cores that others used since the watch began."""
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return max(0.0, os.getloadavg()[0] - torch.get_num_threads())
        wall = max(time.perf_counter() - self._start, 1e-9)
        return max(0.0, (busy - self._busy) - (_own_seconds() - self._own)) / wall


def _busy_seconds() -> float | None:
    """Seconds that all cores spent on anything but idling or waiting for a disk; stolen time counts."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
