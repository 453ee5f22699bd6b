"""``demo.seconds``: the wall time of ``equipoise demo``, as a user starts it, in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks.harness import Once


def demo() -> float:
    """Run the demo in a temporary folder; its output is shown only when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "equipoise", "demo"], cwd=folder, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"equipoise demo exited with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


def cases() -> Iterator[tuple[str, Callable[[], Once]]]:
    """The one case."""
    yield "demo.seconds", lambda: Once(demo)
