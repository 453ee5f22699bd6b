"""``import.vs_torch``: ``import equipoise`` over ``import torch``, each in a fresh interpreter.

The package imports its parts at their first use, so ``import.parts.vs_torch`` also times all of them at once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.harness import Effort, Pair, Side

EFFORT = Effort(least=12, most=40, width=0.1, warm_up=0.1)
TORCH = "import torch"
OURS = "import equipoise, torch"
PARTS = "import equipoise as e; e.functional, e.nn, e.rules, e.measure, e.models, e.data, e.train"


def fresh(statement: str) -> Side:
    """A side that runs ``statement`` in a new interpreter and returns the seconds it took there."""
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"

    def side() -> float:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return float(done.stdout)

    return side


def cases() -> Iterator[tuple[str, Callable[[], Pair]]]:
    """The two comparisons; the lowest ratio is 1, because torch itself is needed."""
    for name, statement in [("import.vs_torch", OURS), ("import.parts.vs_torch", PARTS)]:
        yield name, lambda statement=statement: Pair(fresh(statement), fresh(TORCH), 1.0, EFFORT)
