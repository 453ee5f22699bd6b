#!/usr/bin/env python
"""Kill a sweep at random until it has finished, and compare its table with that of a sweep that nobody touched.

    python scripts/kill_sweep.py --kills 6 --seed 1 --out runs/killed -- \\
        equipoise run inorm/accuracy --preset quick --executor processes --workers 2

The command after ``--`` is started with ``--runs OUT/killed``; its whole process group, workers included, gets SIGKILL
at random times, ``--kills`` times at least, and the same command is started again until it has finished. Then it runs
once more with ``--runs OUT/whole``, undisturbed. Exit status 0: every run is in both tables, once, and equal in all
that is not the clock. For a sweep of a few seconds give ``--longest 2``. ``--evidence FOLDER`` keeps what happened:
``kills.csv``, a row for each kill, and ``killed-runs.csv``, a row for each run with what both tables say of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from equipoise import sweep
from equipoise.sweep.status import STATES
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


def killed(command: list[str], runs: Path, *, kills: int, longest: float, clock: random.Random) -> list[dict[str, Any]]:
    """Kill ``kills`` sessions of ``command`` while they train, then let one finish; a row for each kill."""
    hits: list[dict[str, Any]] = []
    began = time.monotonic()
    while len(hits) < kills:
        before = progress(runs)
        process = subprocess.Popen([*command, "--runs", str(runs)], start_new_session=True)
        while process.poll() is None and progress(runs) == before:
            time.sleep(0.05)
        end = time.monotonic() + clock.uniform(0.0, longest)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if process.poll() is not None:
            sys.stderr.write(f"it finished after {len(hits)} of {kills} kills; make it longer or --longest smaller\n")
            return hits
        workers = len(hits) % 3 != 2  # each third time the driver alone: its workers have to save and end
        kill(process, workers=workers)
        found = sweep.Count.of(sweep.survey(runs))
        who = "driver and workers" if workers else "driver"
        hits.append(
            {"kill": len(hits) + 1, "second": round(time.monotonic() - began, 1), "of": who, "runs": found.total}
            | {state: found.states.get(state, 0) for state in STATES}
        )
        sys.stderr.write(f"kill {len(hits)}, of {who}: {found}\n")
    subprocess.run([*command, "--runs", str(runs)], check=True)
    return hits


def progress(runs: Path) -> float:
    """The newest change of any metrics; it moves once a session trains."""
    return max((path.stat().st_mtime for path in runs.rglob("metrics.jsonl")), default=0.0)


def table(runs: Path, said: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of ``runs`` by hash, with a digest of the weights; what is wrong with them is added to ``said``."""
    rows = sweep.collect(runs, problems=said)
    found = {}
    for row in rows:
        path = next(runs.rglob(f"{row['hash']}/weights.safetensors"), None)
        found[row["hash"]] = {k: v for k, v in row.items() if k not in CLOCK}
        found[row["hash"]]["weights"] = (
            hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else f"none in {runs}"
        )
    if len(rows) != len(found):
        said.append(f"'{runs}' has {len(rows) - len(found)} runs twice")
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """A line for each run that is not in both tables with the same numbers and the same weights."""
    return [
        f"{name}: {one.get(name)} against {other.get(name)}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def keep(folder: Path, hits: list[dict[str, Any]], tables: list[dict[str, dict[str, Any]]]) -> None:
    """Write what happened, and what both tables say."""
    sweep.write_csv(hits, folder / "kills.csv")
    told = ("test_accuracy", "test_loss", "weights")
    rows = []
    for name in sorted({*tables[0], *tables[1]}):
        here, there = (one.get(name, {}) for one in tables)
        spec = {key: (here or there)[key] for key in ("data", "model", "rule", "lr", "seed")}
        sides = {f"{key}, {side}": row.get(key) for key in told for side, row in (("killed", here), ("whole", there))}
        rows.append({"run": name, **spec, **sides})
    sweep.write_csv(rows, folder / "killed-runs.csv")


def main(argv: list[str] | None = None) -> int:
    """Kill, finish, compare."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=about, usage="%(prog)s [options] -- COMMAND ...")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds that a session trains at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evidence", type=Path, help="a folder for kills.csv and killed-runs.csv")
    given, command = parser.parse_args(words[:cut]), words[cut + 1 :]
    if not command:
        parser.error("give the command behind --")
    storage.make_folder(given.out)
    hits = killed(
        command, given.out / "killed", kills=given.kills, longest=given.longest, clock=random.Random(given.seed)
    )
    subprocess.run([*command, "--runs", str(given.out / "whole")], check=True)
    said: list[str] = []
    tables = [table(given.out / name, said) for name in ("killed", "whole")]
    said += differences(*tables)
    if given.evidence is not None:
        keep(given.evidence, hits, tables)
    for line in said:
        sys.stderr.write(f"{line}\n")
    verdict = "equal" if not said else f"{len(said)} differences"
    sys.stdout.write(f"{len(tables[1])} runs, {len(hits)} kills: {verdict}\n")
    return int(bool(said) or len(hits) < given.kills)


if __name__ == "__main__":
    sys.exit(main())
