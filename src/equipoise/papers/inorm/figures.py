"""What each experiment on inhibitory normalisation shows of its own, by the experiment's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.papers.exhibits import Exhibit, Exhibits, Histories, Row
from equipoise.papers.inorm.conditions import CONDITIONS
from equipoise.papers.inorm.figures_accuracy import against_rate, against_strength, comparison
from equipoise.papers.inorm.figures_measures import by_layer, followed, lateral, task
from equipoise.papers.inorm.studies import COMPARED

__all__ = ["EXHIBITS"]


def _both(*makers: Exhibits) -> Exhibits:
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        return [one for make in makers for one in make(rows, histories, folder)]

    return made


_MOMENTS = ("none", "subtractive", "inorm")
_PARTS = ("inorm", "scale", "decorrelate", "center", "full")
_PEPITA = ("relu", "relu-center", "relu-ln", "relu-ln-center")
_LAMBDA = ("inorm", "center", *(name for name in CONDITIONS if "lambda=" in name))

EXHIBITS: dict[str, Exhibits] = {
    "inorm/accuracy": _both(comparison(), by_layer(*COMPARED)),
    "inorm/layernorm": comparison("ln", "none", "e-ln"),
    "inorm/task": task("ln", "none"),
    "inorm/moments": _both(followed("moments", *_MOMENTS), by_layer(*_MOMENTS)),
    "inorm/alignment": followed("alignment", *_PARTS),
    "inorm/components": _both(comparison("ln", *_PARTS), followed("flips", *_PARTS)),
    "inorm/lateral": lateral("ln", "full", "center", "lateral", "lateral-10", "lateral-exponential"),
    "inorm/lambda": against_strength(*_LAMBDA),
    "inorm/confounds": comparison(),
    "inorm/dale": comparison(baseline="center"),
    "inorm/init": comparison(),
    "inorm/stability": against_rate(),
    "inorm/contrast": comparison(),
    "inorm/rules": _both(
        comparison(),
        comparison(*_PEPITA, baseline="relu"),
        comparison(*_PEPITA[2:], baseline="relu-ln", drawn=False),
    ),
    "inorm/conv": comparison(),
}
