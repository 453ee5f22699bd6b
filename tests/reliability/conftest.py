"""What the reliability tests share as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reliability._sessions import Launcher


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Real processes without the second that each would take to import torch."""
    started = Launcher()
    yield started
    started.close()
