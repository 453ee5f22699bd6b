"""What each spiking experiment shows of its own, by the experiment's name."""

from __future__ import annotations

from equipoise.papers.eisnn.figures_compared import compared, ratio, streamed
from equipoise.papers.eisnn.figures_followed import dynamics, rules, starts
from equipoise.papers.exhibits import Exhibits

__all__ = ["EXHIBITS"]

_COMPARED = (
    *("cifar10", "cifar100", "tinyimagenet", "dvs-gesture", "cifar10-dvs"),
    *("mnist", "fashion", "moving-digits", "ablation"),
)
EXHIBITS: dict[str, Exhibits] = {
    **{f"eisnn/{name}": compared for name in _COMPARED},
    "eisnn/sequence": streamed,
    "eisnn/init": starts,
    "eisnn/ratio": ratio,
    "eisnn/dynamics": dynamics,
    "eisnn/rules": rules,
}
