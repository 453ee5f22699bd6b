#!/usr/bin/env python
"""Kill a sweep at random until it has finished, and compare its table with that of a sweep that nobody touched.

    python scripts/kill_sweep.py --kills 6 --seed 1 --out runs/killed -- \\
        equipoise run inorm/accuracy --preset quick --executor processes --workers 2

The command after ``--`` is started with ``--runs OUT/killed``; its whole process group, workers included, gets SIGKILL
at random times, ``--kills`` times at least, and the same command is started again until it has finished. Then it runs
once more with ``--runs OUT/whole``, undisturbed. Exit status 0: every run is in both tables, once, and equal in all
that is not the clock. For a sweep of a few seconds give ``--longest 2``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from equipoise import sweep
from equipoise.train import storage

CLOCK = ("seconds", "commit")  # what may differ: time, and the state of the code's repository


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``: workers sit in sessions, and so in process groups, of their own."""
    found = []
    for child in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(child.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(child.parent.name), *descendants(int(child.parent.name))]
    return found


def kill(process: subprocess.Popen[bytes], *, workers: bool) -> None:
    """SIGKILL to the driver, and at the same moment to all that it has started, or to the driver alone."""
    for pid in [process.pid, *(descendants(process.pid) if workers else [])]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def killed(command: list[str], runs: Path, *, kills: int, longest: float, clock: random.Random) -> int:
    """Kill ``kills`` sessions of ``command`` while they train, then let one finish; how many were hit alive."""
    hits = 0
    while hits < kills:
        before = progress(runs)
        process = subprocess.Popen([*command, "--runs", str(runs)], start_new_session=True)
        while process.poll() is None and progress(runs) == before:
            time.sleep(0.05)
        end = time.monotonic() + clock.uniform(0.0, longest)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if process.poll() is not None:
            sys.stderr.write(f"it finished after {hits} of {kills} kills; make it longer or --longest smaller\n")
            return hits
        kill(process, workers=hits % 3 != 2)  # each third time the driver alone: its workers have to save and end
        hits += 1
        sys.stderr.write(f"kill {hits}: {sweep.Count.of(sweep.survey(runs))}\n")
    subprocess.run([*command, "--runs", str(runs)], check=True)
    return hits


def progress(runs: Path) -> float:
    """The newest change of any metrics; it moves once a session trains."""
    return max((path.stat().st_mtime for path in runs.rglob("metrics.jsonl")), default=0.0)


def differences(one: Path, other: Path) -> list[str]:
    """A line for each run that is not in both tables, once, with the same numbers and the same weights."""
    said, tables = [], []
    for folder in (one, other):
        rows = sweep.collect(folder, problems=said)
        tables.append({row["hash"]: {k: v for k, v in row.items() if k not in CLOCK} for row in rows})
        said += [f"'{folder}' has {len(rows) - len(tables[-1])} runs twice"] if len(rows) != len(tables[-1]) else []
    for name in sorted(set(tables[0]) | set(tables[1])):
        rows = [table.get(name) for table in tables]
        if rows[0] != rows[1]:
            said.append(f"{name}: {rows[0]} against {rows[1]}")
            continue
        weights = []
        for folder in (one, other):
            weights.append(next(folder.rglob(f"{name}/weights.safetensors")).read_bytes())
        if weights[0] != weights[1]:
            said.append(f"{name}: the weights differ")
    return said


def main(argv: list[str] | None = None) -> int:
    """Kill, finish, compare."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage="%(prog)s [options] -- COMMAND ...")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds that a session trains at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given, command = parser.parse_args(words[:cut]), words[cut + 1 :]
    if not command:
        parser.error("give the command behind --")
    storage.make_folder(given.out)
    hits = killed(
        command, given.out / "killed", kills=given.kills, longest=given.longest, clock=random.Random(given.seed)
    )
    subprocess.run([*command, "--runs", str(given.out / "whole")], check=True)
    said = differences(given.out / "killed", given.out / "whole")
    rows = sweep.collect(given.out / "whole")
    for line in said:
        sys.stderr.write(f"{line}\n")
    verdict = "equal" if not said else f"{len(said)} differences"
    sys.stdout.write(f"{len(rows)} runs, {hits} kills: {verdict}\n")
    return int(bool(said) or hits < given.kills)


if __name__ == "__main__":
    sys.exit(main())
