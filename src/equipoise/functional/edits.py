"""The switch that turns off every deliberate edit of the backward pass.

Circuits that normalise, detach or centre the error on its way back ask ``backward_edits()`` in their forward
pass. ``exact_backward`` makes them differentiate as the function that they compute, which is the reference that
``measure.alignment(..., reference="exact")`` compares with. Surrogate gradients of spikes are not edits: the
function has no other useful derivative.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["backward_edits", "exact_backward"]

_edited = True


def backward_edits() -> bool:
    """Whether circuits may edit their backward pass now (True outside ``exact_backward``)."""
    return _edited


@contextmanager
def exact_backward() -> Iterator[None]:
    """Within the block, forward passes build the exact derivative of what they compute."""
    global _edited
    before, _edited = _edited, False
    try:
        yield
    finally:
        _edited = before
