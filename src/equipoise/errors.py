"""The errors that equipoise raises on purpose.

Every message says what was wrong, the shapes or values seen, and what to do about it. The command line
prints that one message and exits with the class's ``exit_code``; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["EquipoiseError", "InputError", "LostRank", "RunError", "StorageError", "ToldElsewhere", "unknown_name"]


class EquipoiseError(Exception):
    """The family's root: anything that equipoise refuses or fails at, in one line."""

    exit_code = 1


class InputError(EquipoiseError, ValueError):
    """What was asked for cannot be done: a wrong name, shape, dtype, value or model."""

    exit_code = 2


class RunError(EquipoiseError, RuntimeError):
    """A run failed on the way: a loss that is not finite, a worker that died."""


class StorageError(RunError):
    """A file could not be read or written: truncated, unwritable, in use."""


class LostRank(RunError):
    """One of several ranks cannot go on, so none can: nothing more can be run in these processes."""


class ToldElsewhere(RunError):
    """A run on several ranks failed, and another rank says why."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one that does.

    >>> str(unknown_name("rule", "dfaa", ["bp", "dfa"]))
    "unknown rule 'dfaa'; did you mean 'dfa'? Known: bp, dfa"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return InputError(f"unknown {kind} '{name}'{hint} Known: {', '.join(names) or 'none'}")
