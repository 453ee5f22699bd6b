"""Stopping cleanly: Ctrl-C, SIGTERM and the time limit, all noticed between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from equipoise.errors import EquipoiseError

__all__ = ["SIGNALS", "Stopper"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Collects the reasons to stop; ``reason`` is "" while there is none.

    ``limit`` is in seconds from construction. The first of ``signals`` only sets the reason; it also puts
    Python's own handlers back, so that a second one acts at once. Not so with ``patience``, for processes that a
    launcher or a cluster sends several.
    """

    def __init__(
        self, limit: float | None = None, *, signals: Sequence[signal.Signals] = SIGNALS, patience: bool = False
    ) -> None:
        self._end = None if limit is None else time.monotonic() + limit
        self._signals, self._patience = tuple(signals), patience
        self._signal = ""

    @property
    def reason(self) -> str:
        """ "SIGINT", "SIGTERM" (or another of the signals), "time limit" or ""."""
        if self._signal:
            return self._signal
        return "time limit" if self._end is not None and time.monotonic() >= self._end else ""

    def _handle(self, number: int, _frame: Any) -> None:
        self._signal = self._signal or signal.Signals(number).name
        if self._patience:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def pass_on(self) -> None:
        """Raise a signal that came too late to stop anything, now that its owner listens again."""
        if self._signal:
            signal.raise_signal(signal.Signals[self._signal])

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals during the block, then give them back to whoever had them.

        Python allows it in the main thread alone; elsewhere only the time limit stops a run.
        """
        before: dict[signal.Signals, Any] = {}
        try:
            if threading.current_thread() is threading.main_thread():
                for number in self._signals:
                    before[number] = signal.signal(number, self._handle)
            yield
        except Exception as error:
            if self._patience and not isinstance(error, EquipoiseError):
                before.clear()  # a launcher ends the others when one dies, and this process has yet to say so
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
