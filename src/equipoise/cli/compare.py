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
    """

    rules: tuple[str, ...] = ("bp", "fa", "dfa", "shallow")
    run: Run = dataclasses.field(default_factory=lambda: Run(experiment="compare", alignment_batch=256))


def _rules(words: Sequence[str]) -> list[str]:
    """``--rules bp,fa`` and ``--rules=bp,fa`` as ``--rules bp fa``."""
    out: list[str] = []
    for word in words:
        if word.startswith("--rules="):
            out += ["--rules", *word.removeprefix("--rules=").split(",")]
        elif out and out[-1] == "--rules" and "," in word:
            out += word.split(",")
        else:
            out.append(word)
    return out


def main(argv: Sequence[str]) -> int:
    """Train every rule and return the exit code."""
    study, where = parse(
        Comparison(),
        _rules(argv),
        command="compare",
        description="Train one model with several rules (--rules bp,fa,dfa) on the same data, seeds and schedule.",
    )
    runs = [run for seed in seeds_of(study.run.seed, where) for run in study.runs(seed)]
    return execute_and_show(runs, where)
