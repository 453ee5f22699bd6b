"""``equipoise train``: one model, one rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from equipoise.cli.flags import parse
from equipoise.cli.outcome import execute_and_show, seeds_of
from equipoise.train import Run

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Train and return the exit code."""
    run, where = parse(
        Run(alignment_batch=256),
        argv,
        command="train",
        description=(
            "Train a model with one rule. --model takes a built-in one (mlp:784-300-10) or your own function "
            "(package.module:function, no arguments, returns a torch.nn.Module); --data a name or your own function."
        ),
        hide=("version", "preset"),
    )
    return execute_and_show([dataclasses.replace(run, seed=seed) for seed in seeds_of(run.seed, where)], where)
