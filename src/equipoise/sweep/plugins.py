"""What installed packages add to equipoise, by entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

__all__ = ["load_plugins"]


def load_plugins() -> None:
    """Import what installed packages offer under the entry point group ``equipoise.plugins``."""
    for point in entry_points(group="equipoise.plugins"):
        point.load()
