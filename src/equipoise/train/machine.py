"""Where and for how long a run runs: nothing here changes its hash."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from equipoise.errors import InputError
from equipoise.train.checks import check_fields

__all__ = ["Machine", "parse_duration"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Machine:
    """Device, threads, folders and limits of the process that trains.

    Folders may be paths or text. ``time_limit`` and ``checkpoint_every`` are in seconds. ``threads`` None
    leaves torch's own number; bits differ between thread counts, so the count is recorded beside every
    result. ``force`` trains a finished run anew.
    """

    device: str = "cpu"
    threads: int | None = None
    data_dir: str | None = None
    runs: str = "runs"
    time_limit: float | None = None
    checkpoint_every: float = 20.0
    force: bool = False

    def __post_init__(self) -> None:
        for name in ("data_dir", "runs"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        check_fields(self)
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError, ValueError):
            raise InputError(f"'device' is {self.device!r}; write it like cpu, cuda or cuda:1") from None
        if self.threads is not None and self.threads < 1:
            raise InputError(f"'threads' is {self.threads}; it must be at least 1")
        if self.time_limit is not None and not self.time_limit > 0:
            raise InputError(f"'time_limit' is {self.time_limit}; give a positive number of seconds")
        if self.checkpoint_every < 0:
            raise InputError(f"'checkpoint_every' is {self.checkpoint_every}; give seconds, 0 for every step")

    def arguments(self) -> list[str]:
        """The command-line flags that give another process this machine (``force`` excepted)."""
        flags = [
            "--runs",
            str(self.runs),
            "--device",
            self.device,
            "--checkpoint-every",
            str(round(self.checkpoint_every, 3)),
        ]
        for flag, value in (
            ("--threads", self.threads),
            ("--data-dir", self.data_dir),
            ("--time-limit", self.time_limit),
        ):
            if value is not None:
                flags += [flag, str(round(value, 3) if isinstance(value, float) else value)]
        return flags


def parse_duration(text: str) -> float:
    """Seconds in a text such as "90", "45s", "8m" or "1h30m".

    >>> parse_duration("8m"), parse_duration("1h30m")
    (480.0, 5400.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().replace(" ", ""):
        raise InputError(f"'{text}' is no duration; write it like 90, 45s, 8m or 1h30m")
    if len(parts) > 1 and any(unit == "" for _, unit in parts):
        raise InputError(f"'{text}' mixes plain numbers and units; write it like 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise InputError(f"'{text}' is no time at all; give a positive duration")
    return seconds
