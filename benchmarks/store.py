"""The two result files: ``latest.json`` (name -> value) and ``latest.full.json`` (all that was measured)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import Timing

BRIEF, FULL = "latest.json", "latest.full.json"


def entry(timing: Timing, about: Mapping[str, Any], others: float) -> dict[str, Any]:
    """One result with what it depends on; ``other_cores`` is what other processes used meanwhile."""
    return {**asdict(timing), **about, "other_cores": round(others, 3)}


def merge(folder: Path, results: Mapping[str, dict[str, Any]], known: Collection[str]) -> dict[str, dict[str, Any]]:
    """Write both files with ``results`` in place of their elder namesakes; names not ``known`` are dropped."""
    path = folder / FULL
    before = json.loads(path.read_text()) if path.exists() else {}
    merged = {n: r for n, r in sorted({**before, **results}.items()) if n in known}
    write(path, merged)
    write(folder / BRIEF, {name: round(result["value"], 4) for name, result in merged.items()})
    return merged


def write(path: Path, content: object) -> None:
    """Replace ``path`` at once: a reader sees the old file or the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
