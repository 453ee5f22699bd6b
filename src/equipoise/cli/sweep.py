"""``equipoise sweep``: a grid and draws of a user's own, over a run, a spec or an experiment."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.cli.flags import Where, parse, take
from equipoise.cli.outcome import check_names, execute_and_show, part_of
from equipoise.cli.search import methods_of
from equipoise.errors import InputError
from equipoise.papers import load_all
from equipoise.sweep import Sweep, draws, grid
from equipoise.sweep.sampling import Choice, Law
from equipoise.sweep.search import read_grid, read_space
from equipoise.train import Run, experiments, storage

__all__ = ["main"]

USAGE = """usage: equipoise sweep [EXPERIMENT|SPEC.json] [--grid NAME=A,B ...] [--draw NAME=LAW ...] [options]

  EXPERIMENT  every run of its preset (--preset); or a spec file; or neither, and the flags of `equipoise train`
  --grid      every combination of these values: optimizer=sgd,adam rule=bp,fa (bars where a value has commas: a|b,c)
  --draw      drawn values, shared by the whole grid: lr=log:1e-4..1e-1, batch_size=int:16..128, x=uniform:0..1
  --draws     how many draws
  --count     say how many runs that is and how many are done, and run nothing

Names are fields of a run, entries of its tables (options.scale) or braces in its model (--model "mlp:64-{width}-10").
The same command resumes. `equipoise sweep --help` shows every option.
"""


@dataclass(frozen=True)
class Axes:
    """What changes from run to run.

    Args:
        grid: values by name, as optimizer=sgd,adam; every combination is run
        draw: laws by name: log:LOW..HIGH, uniform:LOW..HIGH, int:LOW..HIGH, or values as a|b|c
        draws: how many draws; each of them meets every combination of the grid
        draw_seed: of the draws; the runs have seeds of their own
        count: say how many runs that is, and how many are done, and run nothing
    """

    grid: dict[str, Any] = field(default_factory=dict)
    draw: dict[str, Any] = field(default_factory=dict)
    draws: int = 16
    draw_seed: int = 0
    count: bool = False


@dataclass(frozen=True)
class Plain:
    """A sweep of one run.

    Args:
        axes: what changes
        run: what does not
    """

    axes: Axes = field(default_factory=Axes)
    run: Run = field(default_factory=lambda: Run(experiment="sweep", alignment_batch=256))


def main(argv: Sequence[str]) -> int:
    """Run the sweep, or count it, and return the exit code."""
    words = list(argv)
    if not words:
        sys.stdout.write(USAGE)
        return 0
    named = []
    while words and not words[0].startswith("-"):
        named.append(words.pop(0))
    bases, axes, where = _read(named, words)
    laws, values = read_space(axes.draw), read_grid(axes.grid)
    given = _sweep(bases, laws, values, axes, where.seeds)
    check_names(given.runs)
    if axes.count:
        sys.stdout.write("".join(f"{line}\n" for line in _told(given, laws, values, axes, where)))
        return 0
    sys.stderr.write(f"{given}\n")
    return execute_and_show(given.runs, where)


def _read(named: Sequence[str], words: list[str]) -> tuple[list[Run], Axes, Where]:
    """The runs that are swept, the axes and the machine; a single run's flags may stand beside its spec file."""
    about = USAGE.split("\n\n")[1]
    if named and not any(name.endswith(".json") for name in named):
        preset, seed = take(words, "--preset"), take(words, "--seed", "0")
        if not seed.isdigit():
            raise InputError(f"--seed takes a whole number, not '{seed}'")
        axes, where = parse(Axes(), words, command="sweep EXPERIMENT", description=about)
        return [_own(run) for run in methods_of(named, preset, int(seed))], axes, where
    if len(named) > 1:
        raise InputError(f"a sweep has one spec file, and {len(named)} were given; sweep them one by one")
    plain = Plain()
    if named:
        if not Path(named[0]).is_file():
            raise InputError(f"there is no spec file '{named[0]}'")
        load_all()
        plain = Plain(run=_own(Run.from_json(storage.read_text(Path(named[0])))))
    chosen, where = parse(plain, words, command="sweep [SPEC.json]", description=about, hide=("version", "preset"))
    return [chosen.run], chosen.axes, where


def _own(run: Run) -> Run:
    """``run`` under a name of its own, where it would else be taken for an experiment's."""
    known = run.experiment in experiments
    return dataclasses.replace(run, experiment=f"sweep/{run.experiment}", preset="") if known else run


def _sweep(
    bases: Sequence[Run], laws: Mapping[str, Law], values: Mapping[str, Sequence[Any]], axes: Axes, seeds: int
) -> Sweep:
    """Each draw meets every base, every combination of the grid and every seed before the next one begins."""
    if seeds < 1 or (laws and axes.draws < 1):
        raise InputError(f"--seeds is {seeds} and --draws {axes.draws}; give at least 1")
    runs: list[Run] = []
    for one in draws(axes.draws, laws, seed=axes.draw_seed) if laws else [{}]:
        for base in bases:
            lists = [[one], grid(values)]
            if seeds > 1:
                lists.append(grid(seed=range(base.seed, base.seed + seeds)))
            runs += Sweep.cross(base, *lists).runs
    return Sweep(tuple(runs))


def _told(
    given: Sweep, laws: Mapping[str, Law], values: Mapping[str, Sequence[Any]], axes: Axes, where: Where
) -> list[str]:
    """The sweep, its axes, and how it stands in the folder of the runs."""
    lines = [str(given)]
    if laws:
        shown = "; ".join(f"{name} {_law(law)}" for name, law in laws.items())
        lines.append(f"drawn: {shown} ({axes.draws} draws of seed {axes.draw_seed}, shared by all conditions)")
    lines += [f"grid: {name} {', '.join(map(str, row))}" for name, row in values.items()]
    mine = Sweep(tuple(part_of(given.runs, where)))
    lines.append(f"{f'part {where.part}' if where.part else 'all'}, in '{where.runs}': {mine.count(where.runs)}")
    return lines


def _law(law: Law) -> str:
    if isinstance(law, Choice):
        return "one of " + ", ".join(map(str, law.values))
    return f"{type(law).__name__} {getattr(law, 'low', '')} to {getattr(law, 'high', '')}"
