"""What every refusal is held to: an ``InputError`` of one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from equipoise.errors import InputError


def refused_in_one_line(call: Callable[[], object], says: str) -> None:
    """Check that ``call`` raises an ``InputError`` of one line in which ``says`` stands."""
    with pytest.raises(InputError) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
