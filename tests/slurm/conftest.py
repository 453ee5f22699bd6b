"""A real SLURM controller with one node, for the time of the session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import equipoise.sweep.slurm  # noqa: F401 (the function of that name hides the module)

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def node(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The controller, started by the script that users have too; skipped where it cannot be had."""
    script, folder = root / "scripts" / "slurm_node.sh", tmp_path_factory.mktemp("slurm")
    started = subprocess.run([script, "start", folder], capture_output=True, text=True, timeout=120, check=False)
    if started.returncode == 3:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    subprocess.run([script, "stop", folder], timeout=60, check=False)
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before


@pytest.fixture(autouse=True)
def _surroundings_of_jobs(node: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs begin in the tests' folder; the driver looks often; nothing is left in the queue."""
    monkeypatch.chdir(TESTS)
    module = sys.modules["equipoise.sweep.slurm"]
    for name, seconds in (("LOOK", 0.2), ("ASK", 1.0), ("GRACE", 3.0)):
        monkeypatch.setattr(module, name, seconds)
    yield
    subprocess.run(["scancel", "--me"], check=False, timeout=60)
