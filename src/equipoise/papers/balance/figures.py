"""What each experiment on balance shows of its own, by the experiment's name."""

from __future__ import annotations

from equipoise.papers.balance.figures_paper import convergence, regularised, unbalanced
from equipoise.papers.balance.figures_training import bipu, cnn, mixed, stopping
from equipoise.papers.balance.figures_uses import range_, starts
from equipoise.papers.exhibits import Exhibits

__all__ = ["EXHIBITS"]

EXHIBITS: dict[str, Exhibits] = {
    "balance/regularised": regularised,
    "balance/unbalanced": unbalanced,
    "balance/convergence": convergence,
    "balance/cnn": cnn,
    "balance/init": starts,
    "balance/stopping": stopping,
    "balance/range": range_,
    "balance/bipu": bipu,
    "balance/mixed": mixed,
}
