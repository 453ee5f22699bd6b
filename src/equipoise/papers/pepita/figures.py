"""What each experiment of the PEPITA paper shows of its own, by the experiment's name."""

from __future__ import annotations

from equipoise.papers.exhibits import Exhibits
from equipoise.papers.pepita.figures_accuracy import controls, curves, depth, table1, whitening
from equipoise.papers.pepita.figures_embedding import embedding
from equipoise.papers.pepita.figures_training import dynamics, linear, slowness
from equipoise.papers.pepita.figures_weights import frozen_conv, weights

__all__ = ["EXHIBITS"]

EXHIBITS: dict[str, Exhibits] = {
    "pepita/table1": table1,
    "pepita/curves": curves,
    "pepita/dynamics": dynamics,
    "pepita/embedding": embedding,
    "pepita/controls": controls,
    "pepita/weights": weights,
    "pepita/slowness": slowness,
    "pepita/whitening": whitening,
    "pepita/linear": linear,
    "pepita/frozen-conv": frozen_conv,
    "pepita/depth": depth,
}
