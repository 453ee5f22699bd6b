"""``equipoise run``: an experiment at a preset, or one run from a spec file."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from equipoise.cli.flags import parse, take
from equipoise.cli.outcome import execute_and_show, seeds_of
from equipoise.cli.stages import another_budget, first_stage
from equipoise.errors import InputError, unknown_name
from equipoise.papers import load_all
from equipoise.sweep import worker
from equipoise.train import Experiment, Run, Staged, experiments
from equipoise.train import progress as train_progress

__all__ = ["main", "versioned"]

USAGE = """usage: equipoise run EXPERIMENT [--preset smoke|quick|paper] [--seeds N] [--protocol authors] [options]
       equipoise run --spec FILE [options]

  --preset    smoke: seconds, on embedded images; quick: minutes, on real data; paper: the exact protocol
  --seeds     how many seeds, from --seed upwards
  --protocol  authors: report the epoch that is best on the test set, as some authors did; labelled so everywhere

`equipoise list experiments` names the experiments; `equipoise run EXPERIMENT --help` shows every option.
"""
PROTOCOLS = ("paper", "authors")


def main(argv: Sequence[str]) -> int:
    """Run an experiment (or a spec) and return the exit code."""
    words = list(argv)
    if any(word == "--spec" or word.startswith("--spec=") for word in words):
        return worker.main(words, progress=train_progress.auto())
    preset, seed, protocol = (
        take(words, "--preset"),
        take(words, "--seed", "0"),
        take(words, "--protocol", "paper"),
    )
    if not words or words[0].startswith("-"):
        if words[:1] in (["-h"], ["--help"]):
            sys.stdout.write(USAGE)
            return 0
        raise InputError("name the experiment first: equipoise run EXPERIMENT (`equipoise list experiments` has them)")
    if not seed.isdigit():
        raise InputError(f"--seed takes a whole number, not '{seed}'")
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    load_all()
    experiment = experiments[words.pop(0)]
    if protocol == "authors" and isinstance(next(iter(experiment.presets.values())), Staged):
        raise InputError(f"'{experiment.name}' compares last epochs; the test set selects none: leave out --protocol")
    preset = preset or ("quick" if "quick" in experiment.presets else next(iter(experiment.presets)))
    study = experiment.preset(preset)
    study, where = parse(
        study,
        words,
        command=f"run {experiment.name}",
        description=(
            f"{experiment.title}{'' if experiment.title.endswith('?') else '.'} Presets (--preset): "
            f"{', '.join(experiment.presets)}; shown are the defaults of '{preset}'. --protocol authors "
            f"reports the epoch that is best on the test set, as some authors did. Source: {experiment.source}."
        ),
        hide=("experiment", "version", "preset", *getattr(study, "DECIDES", ())),
    )
    seeds = seeds_of(int(seed), where)
    like = experiment.preset(preset)
    over = getattr(like, "over", None)
    like = like if over is None else over(study)
    planned, asked = ([versioned(run, experiment) for s in seeds for run in one.runs(s)] for one in (like, study))
    hashes = {run.hash for run in planned}
    changed = [run.hash not in hashes for run in asked]
    if isinstance(study, Staged) and isinstance(like, Staged):
        planned, first = ([versioned(run, experiment) for run in one.first()] for one in (like, study))
        hashes = {run.hash for run in planned}
        if another_budget(first, planned):
            changed = [True] * len(asked)
        first = [_labelled(run, preset, "paper", run.hash not in hashes) for run in first]
        outcomes, where, code = first_stage(first, where, asked)
        if code is not None:
            return code
        asked = [versioned(run, experiment) for s in seeds for run in study.after(outcomes).runs(s)]
    return execute_and_show(
        [_labelled(run, preset, protocol, new) for run, new in zip(asked, changed, strict=True)], where
    )


def versioned(run: Run, asking: Experiment) -> Run:
    """``run`` with the version of the experiment that it names, which ``asking`` may share it with."""
    shared = run.experiment != asking.name and run.experiment in experiments
    return dataclasses.replace(run, version=(experiments[run.experiment] if shared else asking).version)


def _labelled(run: Run, preset: str, protocol: str, changed: bool) -> Run:
    """``run`` under the name of its preset, which says so where flags changed it or the test set selects."""
    label = f"{preset} (changed)" if changed else preset
    if protocol == "authors":
        return dataclasses.replace(run, select="test", preset=f"{label} (best epoch on test)")
    return dataclasses.replace(run, preset=label)
