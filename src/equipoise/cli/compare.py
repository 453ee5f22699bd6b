"""``equipoise compare``: one model, several rules side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.cli.flags import parse
from equipoise.cli.outcome import execute_and_show, seeds_of
from equipoise.papers import SideBySide
from equipoise.train import Run

__all__ = ["main"]


@dataclass(frozen=True)
class Comparison(SideBySide):
    """Several rules on one model.

    Args:
        rules: their names, as bp,fa,dfa
        run: what they share
        rates: learning rates by rule, where they differ from --lr, as fa=0.03
        rule_options: options by rule, as dfa.hidden_scale=100
    """

    rules: tuple[str, ...] = ("bp", "fa", "dfa", "shallow")
    run: Run = dataclasses.field(default_factory=lambda: Run(experiment="compare", alignment_batch=256))


def main(argv: Sequence[str]) -> int:
    """Train every rule and return the exit code."""
    study, where = parse(
        Comparison(),
        argv,
        command="compare",
        description="Train one model with several rules (--rules bp,fa,dfa) on the same data, seeds and schedule.",
        hide=("version", "preset", *Comparison.DECIDES),
    )
    runs = [run for seed in seeds_of(study.run.seed, where) for run in study.runs(seed)]
    return execute_and_show(runs, where)
