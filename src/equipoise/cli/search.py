"""``equipoise search``: settings of an experiment's runs, or of a spec, chosen on held-out images."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise import report
from equipoise.cli.flags import Where, parse, take
from equipoise.cli.outcome import check_names, show_table
from equipoise.cli.run import versioned
from equipoise.errors import InputError
from equipoise.papers import load_all
from equipoise.sweep import progress as sweep_progress
from equipoise.sweep.sampling import Choice, Law, draws
from equipoise.sweep.search import SAMPLERS, Found, read_space, score, search, trial
from equipoise.train import Machine, Run, experiments, storage

__all__ = ["main", "methods_of"]

USAGE = """usage: equipoise search EXPERIMENT|SPEC.json ... --space NAME=LAW ... --trials N [--preset NAME] [options]

  EXPERIMENT  every run of its preset is a method, and each gets the same number of trials; or spec files, one a method
  --space     what is tried: lr=log:1e-4..1 (log-uniform), x=uniform:0..2, x=int:50..500, or values sgd|adam
  --trials    settings tried for each method
  --sampler   random (the default: the same settings for every method), or optuna (the extra `search`)

Settings are chosen by the accuracy on the validation split; the test set is not looked at. Every trial is an ordinary
run under RUNS/search/, so the same command resumes. Its seed is not the winner's, so that no luck is chosen and kept.
`equipoise search --help` shows every option.
"""


@dataclass(frozen=True)
class Flags:
    """What is tried, how often, and by whom.

    Args:
        space: laws by name: log:LOW..HIGH, uniform:LOW..HIGH, int:LOW..HIGH, or values as a|b|c
        trials: settings tried for each method
        sampler: random or optuna
        search_seed: of the settings; the runs have seeds of their own
    """

    space: dict[str, Any] = field(default_factory=dict)
    trials: int = 16
    sampler: str = SAMPLERS[0]
    search_seed: int = 0


def main(argv: Sequence[str]) -> int:
    """Search, print each method's winner, write its spec, and return the exit code."""
    words = list(argv)
    if not words:
        sys.stdout.write(USAGE)
        return 0
    preset, seed = take(words, "--preset"), take(words, "--seed")
    named = []
    while words and not words[0].startswith("-"):
        named.append(words.pop(0))
    flags, where = parse(Flags(), words, command="search EXPERIMENT|SPEC.json", description=USAGE.split("\n\n")[2])
    if not named:
        raise InputError("name what to search first: equipoise search EXPERIMENT|SPEC.json --space lr=log:1e-3..1")
    if seed and not seed.isdigit():
        raise InputError(f"--seed takes a whole number, not '{seed}'")
    if where.seeds != 1 or where.part:
        raise InputError("a search tries each setting with one seed, all in one place: leave out --seeds and --part")
    methods = methods_of(named, preset, int(seed) if seed else None)
    check_names(methods)
    space = read_space(flags.space)
    settings = draws(max(flags.trials, 0), space, seed=flags.search_seed)
    check_names([trial(method, setting) for method in methods for setting in settings])
    found = search(
        methods,
        space,
        flags.trials,
        sampler=flags.sampler,
        seed=flags.search_seed,
        machine=where.machine(),
        executor=where.executor,
        workers=where.workers,
        options=where.executor_options,
        progress=sweep_progress.auto(),
    )
    return _told(found, space, flags, where)


def methods_of(named: Sequence[str], preset: str, seed: int | None) -> list[Run]:
    """The runs that ``named`` experiments' presets, or spec files, have, with ``seed`` (None: 0, or the file's own).

    Raises ``InputError`` for a preset beside spec files, or for no such file.
    """
    if not any(name.endswith(".json") for name in named):
        load_all()
        chosen = [experiments[name] for name in named]
        found = []
        for one in chosen:
            default = "quick" if "quick" in one.presets else next(iter(one.presets))
            found += [versioned(run, one) for run in one.preset(preset or default).runs(seed or 0)]
        return found
    if preset:
        raise InputError("a spec file has no presets; leave --preset out")
    missing = [name for name in named if not Path(name).is_file()]
    if missing:
        raise InputError(f"there is no spec file '{missing[0]}'")
    runs = [Run.from_json(storage.read_text(Path(name))) for name in named]
    return [run if seed is None else dataclasses.replace(run, seed=seed) for run in runs]


def _unlike(methods: Sequence[Run]) -> list[str]:
    """The fields in which what the methods' trials are given differs, apart from their numbers."""
    trials = [trial(method, {}) for method in methods]
    return [name for name in ("epochs", "train_limit", "validation") if len({getattr(t, name) for t in trials}) > 1]


def _told(found: Sequence[Found], space: dict[str, Law], flags: Flags, where: Where) -> int:
    """Show the winners and write their specs; those whose trials are not all there are said to be unfinished."""
    whole = [one for one in found if one.whole and len(one.outcomes) == flags.trials]
    lines: list[list[Any]] = []
    specs: list[str] = []
    for one in whole:
        setting, best = one.settings[one.place], one.outcomes[one.place]
        lost = sum(o.status == "failed" for o in one.outcomes)
        specs.append(str(_write(one.winner, Path(where.runs))))
        values = ", ".join(f"{name}={value}" for name, value in setting.items())
        row = [one.method.data, one.method.model, one.method.rule, values]
        row += [report.Number(100 * score(best), f"{100 * score(best):.2f}")]
        lines.append([*row, ", ".join(one.edges(space)), f"{lost} of {flags.trials}"])
    if lines:
        heads = ["data", "model", "rule", "best setting", "validation, %", "at an edge", "diverged"]
        laws = ", ".join(f"{name} from {_law(law)}" for name, law in space.items())
        caption = f"Each method tried {flags.trials} settings ({flags.sampler}, seed {flags.search_seed}): {laws}. "
        if unlike := _unlike([one.method for one in found]):
            caption += f"The methods differ in {', '.join(unlike)}: equally many trials, but not equal training. "
        show_table(report.Table(heads, lines, caption + "Chosen on the validation split; no test image was looked at."))
        sys.stdout.write("The winners' specs, each to be trained as it stands:\n")
        for spec in specs:
            sys.stdout.write(f"  equipoise run --spec {shlex.quote(spec)} --runs {shlex.quote(where.runs)}\n")
    return _left(found, whole, where.machine())


def _law(law: Law) -> str:
    return "|".join(map(str, law.values)) if isinstance(law, Choice) else f"{type(law).__name__} {vars(law)}"


def _write(run: Run, root: Path) -> Path:
    path = root / "search" / run.experiment / "winners" / f"{run.rule}-{run.hash}.json"
    storage.make_folder(path.parent)
    storage.write_bytes(path, run.to_json().encode())
    return path


def _left(found: Sequence[Found], whole: Sequence[Found], machine: Machine) -> int:
    """Say what failed and what is not finished; 0 where every method has its winner."""
    if len(whole) == len(found):
        return 0
    problems = {}
    for one in found:
        for setting, outcome in zip(one.settings, one.outcomes, strict=True):
            if outcome.status == "failed" and "not finite" not in outcome.message:
                problems.setdefault(outcome.message, trial(one.method, setting))
    for message, run in problems.items():
        sys.stderr.write(f"failed: {run.experiment}/{run.hash} ({run.rule}, seed {run.seed}): {message}\n")
    left = len(found) - len(whole)
    sys.stderr.write(f"{left} of {len(found)} methods have trials left in '{machine.runs}'; the same command resumes\n")
    return 1 if problems else 0
