"""Finding the papers: importing a package under ``papers`` registers its experiments."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from equipoise.papers.published import Published, read_published

__all__ = ["load_all", "published"]


def _packages() -> list[str]:
    root = Path(__file__).parent
    return sorted(m.name for m in pkgutil.iter_modules([str(root)]) if m.ispkg)


def load_all() -> None:
    """Register the experiments of every paper (again is harmless)."""
    for name in _packages():
        importlib.import_module(f"equipoise.papers.{name}.experiments")


def published() -> list[Published]:
    """Every published number, of every paper."""
    root = Path(__file__).parent
    files = [root / name / "published.toml" for name in _packages()]
    return [number for file in files if file.exists() for number in read_published(file)]
