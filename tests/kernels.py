"""``python -m tests.kernels``: the tests of spiking cells once more, their time steps by the Triton kernels.

Triton's interpreter runs the kernels on a CPU, so that what a CUDA device would compute is held to the same oracles.
Triton need not be installed for anything else: without it this says so, and is done.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = (
    "identity/test_spiking.py",
    "identity/test_spiking_fused.py",
    "identity/test_spiking_short_cuts.py",
    "transforms/test_spiking.py",
)


class Kernels:
    """A plugin of pytest: cells on a CPU take the kernels too, whose launches are counted."""

    def __init__(self) -> None:
        self.launches = {"walk": 0, "carry": 0}

    def pytest_sessionstart(self) -> None:
        """Serve the CPU."""
        from equipoise.functional import lif_kernels, lif_triton

        lif_kernels.DEVICES.add("cpu")
        lif_kernels.BLOCK = 1 << 14  # the interpreter takes one block after another
        for name in self.launches:
            setattr(lif_triton, name, self._counted(name, getattr(lif_triton, name)))

    def _counted(self, name: str, launch: object) -> object:
        def counted(*args: object) -> None:
            self.launches[name] += 1
            launch(*args)  # type: ignore[operator]

        return counted


def main() -> int:
    """Run the tests; 0 where they pass with both kernels at work, or where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        sys.stdout.write("the kernels are not tested: triton is not installed here\n")
        return 0
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    kernels = Kernels()
    files = [str(HERE / one) for one in FILES]
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *sys.argv[1:]]
    code = pytest.main([*files, *options], plugins=[kernels])
    sys.stdout.write(f"launches: {kernels.launches}\n")
    return int(code) or int(not all(kernels.launches.values()))


if __name__ == "__main__":
    sys.exit(main())
