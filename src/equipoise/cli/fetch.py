"""``equipoise fetch``: download a data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from equipoise import data
from equipoise.cli.flags import take
from equipoise.errors import InputError

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Download the data set named in ``argv`` into ``--data-dir``, or else ``EQUIPOISE_DATA``."""
    words = list(argv)
    folder = take(words, "--data-dir", os.environ.get("EQUIPOISE_DATA", ""))
    if len(words) != 1 or words[0].startswith("-"):
        sys.stdout.write("usage: equipoise fetch NAME --data-dir DIR   (`equipoise list data` has the names)\n")
        return 0 if words and words[0] in ("-h", "--help") else 2
    if not folder:
        raise InputError("say where to: --data-dir DIR, or set EQUIPOISE_DATA")
    data.fetch(words[0], folder)
    sys.stdout.write(f"{words[0]} is in {folder}\n")
    return 0
