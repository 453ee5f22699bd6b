"""``equipoise run``: an experiment at a preset, or one run from a spec file."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from equipoise.cli.flags import parse
from equipoise.cli.outcome import execute_and_show, seeds_of
from equipoise.errors import InputError
from equipoise.papers import load_all
from equipoise.sweep import worker
from equipoise.train import experiments
from equipoise.train import progress as train_progress

__all__ = ["main"]

USAGE = """usage: equipoise run EXPERIMENT [--preset smoke|quick|paper] [options]
       equipoise run --spec FILE [options]

`equipoise list experiments` names the experiments; `equipoise run EXPERIMENT --help` its options.
"""


def _take(words: list[str], flag: str, default: str) -> str:
    """Take ``flag VALUE`` or ``flag=VALUE`` out of ``words``."""
    for k, word in enumerate(words):
        if word == flag:
            if k + 1 == len(words) or words[k + 1].startswith("--"):
                raise InputError(f"{flag} needs a value")
            del words[k]
            return words.pop(k)
        if word.startswith(f"{flag}="):
            return words.pop(k).removeprefix(f"{flag}=")
    return default


def main(argv: Sequence[str]) -> int:
    """Run an experiment (or a spec) and return the exit code."""
    words = list(argv)
    if any(word == "--spec" or word.startswith("--spec=") for word in words):
        return worker.main(words, progress=train_progress.auto())
    if not words or words[0].startswith("-"):
        sys.stdout.write(USAGE)
        return 0 if words and words[0] in ("-h", "--help") else 2
    load_all()
    experiment = experiments[words.pop(0)]
    preset = _take(words, "--preset", "quick" if "quick" in experiment.presets else next(iter(experiment.presets)))
    seed = _take(words, "--seed", "0")
    if not seed.isdigit():
        raise InputError(f"--seed takes a whole number, not '{seed}'")
    study, where = parse(
        experiment.preset(preset),
        words,
        command=f"run {experiment.name}",
        description=(
            f"{experiment.title}. Presets (--preset): {', '.join(experiment.presets)}. Source: {experiment.source}."
        ),
    )
    runs = [
        dataclasses.replace(run, preset=preset, version=experiment.version)
        for seed in seeds_of(int(seed), where)
        for run in study.runs(seed)
    ]
    return execute_and_show(runs, where)
