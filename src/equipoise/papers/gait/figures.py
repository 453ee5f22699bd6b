"""What each experiment on GAIT-prop shows of its own, by the experiment's name."""

from __future__ import annotations

from equipoise.papers.exhibits import Exhibits
from equipoise.papers.gait.figures_compared import compared
from equipoise.papers.gait.figures_limits import depth, noise, precision

__all__ = ["EXHIBITS"]

EXHIBITS: dict[str, Exhibits] = {
    "gait/shallow": compared,
    "gait/deep": compared,
    "gait/imagenet": compared,
    "gait/controls": compared,
    "gait/orthogonality": compared,
    "gait/precision": precision,
    "gait/depth": depth,
    "gait/noise": noise,
}
