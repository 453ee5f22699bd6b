"""One run from a spec file: what a worker process does, and what ``equipoise run --spec FILE`` is."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from equipoise.errors import EquipoiseError, InputError
from equipoise.train import Machine, Run, Summary, parse_duration, storage, train
from equipoise.train.progress import Lines, Progress

__all__ = ["end_with", "entry", "exit_code", "machine_of", "main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The flags of a worker, one for every field of ``Machine``."""
    plain = Machine()
    flags = argparse.ArgumentParser(prog="equipoise run", description="Train the run that a spec file describes.")
    flags.add_argument("--spec", required=True, type=Path, help="a spec.json")
    flags.add_argument("--runs", default=plain.runs, help="the folder of all runs")
    flags.add_argument("--device", default=plain.device, help="a torch device")
    flags.add_argument("--threads", default=plain.threads, type=int, help="torch's threads")
    flags.add_argument("--data-dir", default=plain.data_dir, help="the folder of the datasets")
    flags.add_argument("--time-limit", default=None, help="stop with a checkpoint after, say, 8m")
    flags.add_argument("--checkpoint-every", default=f"{plain.checkpoint_every}", help="seconds between checkpoints")
    flags.add_argument("--force", action="store_true", help="train a finished run anew")
    flags.add_argument("--parent", default=None, type=int, help=argparse.SUPPRESS)
    return flags


def end_with(parent: int) -> None:
    """Ask this process to save and end once ``parent``, who started it, is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: Sequence[str], *, progress: Progress | None = None) -> int:
    """Train the run in ``--spec`` and return the exit code; an ``EquipoiseError`` is the caller's to show."""
    given = parser().parse_args(argv)
    if given.parent is not None:
        end_with(given.parent)
    if not given.spec.is_file():
        raise InputError(f"there is no spec file '{given.spec}'")
    try:
        run = Run.from_json(storage.read_text(given.spec))
    except InputError as error:
        raise InputError(f"{error} (in '{given.spec}')") from None
    summary = train(run, machine_of(given), progress=progress if progress is not None else Lines())
    return exit_code(summary)


def machine_of(given: argparse.Namespace) -> Machine:
    """The machine that parsed flags describe."""
    every = given.checkpoint_every
    return Machine(
        device=given.device,
        threads=given.threads,
        data_dir=given.data_dir,
        runs=given.runs,
        time_limit=None if given.time_limit is None else parse_duration(given.time_limit),
        checkpoint_every=0.0 if every in ("0", "0.0") else parse_duration(every),
        force=given.force,
    )


def exit_code(summary: Summary) -> int:
    """0, or what a shell expects of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    if summary.cause in ("SIGINT", "SIGTERM"):
        return 128 + signal.Signals[summary.cause]
    return 0 if summary.status in ("finished", "stopped") else 1


def entry(argv: Sequence[str]) -> int:
    """``main`` with its errors shown as one line on standard error."""
    try:
        return main(argv)
    except EquipoiseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(entry(sys.argv[1:]))
