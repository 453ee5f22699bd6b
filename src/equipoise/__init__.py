"""Learning the way cortex might, in PyTorch: local learning rules, inhibitory circuits, synaptic balance."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from equipoise._version import __version__ as __version__
from equipoise.debugging import debug as debug
from equipoise.errors import EquipoiseError as EquipoiseError

if TYPE_CHECKING:
    from equipoise import balance as balance
    from equipoise import data as data
    from equipoise import functional as functional
    from equipoise import measure as measure
    from equipoise import models as models
    from equipoise import nn as nn
    from equipoise import plots as plots
    from equipoise import population as population
    from equipoise import report as report
    from equipoise import rules as rules
    from equipoise import sweep as sweep
    from equipoise import train as train

_PARTS = (
    "balance",
    "data",
    "functional",
    "measure",
    "models",
    "nn",
    "plots",
    "population",
    "report",
    "rules",
    "sweep",
    "train",
)

__all__ = ["EquipoiseError", "__version__", "debug", *_PARTS]


def __getattr__(name: str) -> Any:
    """Import a part at its first use, so that ``import equipoise`` costs little more than torch."""
    if name in _PARTS:
        return importlib.import_module(f"equipoise.{name}")
    raise AttributeError(f"module 'equipoise' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
