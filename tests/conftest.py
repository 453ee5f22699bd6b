"""What every test runs under: one thread, no display, caches of its own, checked types in ``functional``.

Set ``EQUIPOISE_NO_TYPECHECK=1`` to switch the type checks off. A test that compiles a full graph is marked
``compiles``, because dynamo cannot trace the checked functions.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import jaxtyping
import pytest
import torch
from hypothesis import settings

CHECKED = not os.environ.get("EQUIPOISE_NO_TYPECHECK")
if CHECKED:
    jaxtyping.install_import_hook("equipoise.functional", "beartype.beartype")

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compiles: traces a full graph, so the type checks are off in it")
    cache = tempfile.TemporaryDirectory(prefix="equipoise-cache-")
    config.add_cleanup(cache.cleanup)
    os.environ["XDG_CACHE_HOME"] = cache.name
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; tests press Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "cache"):  # kept between sessions, because matplotlib takes seconds to list the fonts
        os.environ.setdefault("MPLCONFIGDIR", str(config.cache.mkdir("matplotlib")))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the type checks of ``equipoise.functional`` off while a test compiles."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def _surroundings(request: pytest.FixtureRequest) -> Iterator[None]:
    """One torch thread and the default dtype, whatever came before; ``compiles`` tests run unchecked."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    if request.node.get_closest_marker("compiles"):
        request.getfixturevalue("unchecked")
    yield
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
