"""SLURM's side of a sweep: what sbatch is told, and what squeue says about the jobs of earlier calls."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.errors import InputError, StorageError
from equipoise.sweep.slurm_job import Job
from equipoise.train import Machine, Run, parse_duration, storage

__all__ = ["Options", "Queue", "Ticket", "submit"]

_LARGEST = 1000  # tasks of one array: SLURM's default MaxArraySize is 1001
_OURS = ("array", "chdir", "error", "job_name", "open_mode", "output", "parsable", "signal", "wait", "wrap")


@dataclass(frozen=True)
class Options:
    """What ``--executor-options`` may say for slurm: these, and any long option of sbatch.

    ``time``: of one job, as 4h or as SLURM writes it (a number alone is minutes); one that needs longer goes back
    into the queue. ``grace``: the time before that at which it is told to save. ``per_job``: runs of one job, in turn;
    as many as keep the array at 1000 jobs if not given. ``requeues``: how often a job may run out of time. ``setup``:
    a shell command before it.
    """

    time: str = "1h"
    grace: str = "90s"
    per_job: int | None = None
    requeues: int = 100
    setup: str = ""
    sbatch: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Options:
        """The options in a table of words; ``InputError`` for one that belongs to this program."""
        own = ("time", "grace", "per_job", "requeues", "setup")
        given = {name.replace("-", "_"): value for name, value in options.items()}
        for name in given:
            if name in _OURS:
                raise InputError(f"the option '{name}' of sbatch is set by equipoise; leave it out")
        for name, least in (("per_job", 1), ("requeues", 0)):
            value = given.get(name, least)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"the option '{name}' is {value!r}; give a whole number from {least} on")
        rest = {name: value for name, value in given.items() if name not in own}
        known = {name: value for name, value in given.items() if name in own}
        known |= {name: str(known[name]) for name in ("time", "grace", "setup") if name in known}
        chosen = cls(**known, sbatch=rest)
        chosen.minutes()
        parse_duration(chosen.grace)
        return chosen

    def minutes(self) -> int:
        """The time limit of one job in whole minutes, as sbatch wants it."""
        found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", self.time.strip())
        if found is None:
            return max(1, math.ceil(parse_duration(self.time) / 60))
        days, *rest = (None if part is None else int(part) for part in found.groups())
        parts = [part or 0 for part in rest if part is not None]
        if days is not None:  # days-hours[:minutes[:seconds]]
            hours, minutes, seconds = [*parts, 0, 0][:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:  # minutes[:seconds]
            hours, minutes, seconds = 0, *[*parts, 0][:2]
        return max(1, (days or 0) * 1440 + hours * 60 + minutes + math.ceil(seconds / 60))


@dataclass(frozen=True)
class Ticket:
    """One task of one array: the folder of the submission, and the task's index."""

    folder: Path
    index: int

    @property
    def name(self) -> str:
        """The job's name in the queue."""
        return f"equipoise-{self.folder.name}"

    def runs(self) -> list[str]:
        """The hashes of the runs that the task trains; none where that cannot be read."""
        try:
            return storage.read_json(self.folder / "jobs.json")["jobs"][self.index]
        except (StorageError, KeyError, IndexError):
            return []

    def log(self) -> Path | None:
        """The newest log of the task, if it has begun."""
        found = [*self.folder.glob(f"*_{self.index}_0_log.err"), *self.folder.glob("*_0_log.err")]
        return found[0] if found else None


class Queue:
    """The jobs of ours that SLURM knows, by name and array index."""

    def __init__(self, states: Mapping[tuple[str, int], str], jobs: Mapping[tuple[str, int], str]) -> None:
        self._states, self._jobs = dict(states), dict(jobs)

    @classmethod
    def ask(cls, *, patient: bool = False) -> Queue | None:
        """What squeue says now; with ``patient`` None when it does not answer, else an ``InputError``."""
        if shutil.which("squeue") is None:
            raise InputError("there is no SLURM on this machine ('squeue' is not found); use --executor processes")
        command = ["squeue", "--me", "--array", "--noheader", "--format=%j|%K|%T|%F"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            if patient:
                return None
            said = " ".join(str(getattr(error, "stderr", "") or error).split())
            raise InputError(f"SLURM does not answer: {said}") from None
        states, jobs = {}, {}
        for line in done.stdout.splitlines():
            name, index, state, job = [*line.rsplit("|", 3), "", "", ""][:4]
            if name.startswith("equipoise-"):
                place = name, int(index) if index.isdigit() else 0
                states[place], jobs[place] = state, f"{job}_{index}" if index.isdigit() else job
        return cls(states, jobs)

    def __contains__(self, ticket: Ticket) -> bool:
        return (ticket.name, ticket.index) in self._states

    def state(self, ticket: Ticket) -> str:
        """Such as PENDING or RUNNING; "" for a job that is not in the queue."""
        return self._states.get((ticket.name, ticket.index), "")

    def job(self, ticket: Ticket) -> str:
        """What scancel calls the task; "" for one that is not in the queue."""
        return self._jobs.get((ticket.name, ticket.index), "")

    def runs(self, base: Path) -> dict[str, Ticket]:
        """The hashes of all runs in the queue that were submitted from ``base``, with their jobs."""
        found = {}
        for folder in {base / name.removeprefix("equipoise-") for name, _ in self._states}:
            try:
                jobs = storage.read_json(folder / "jobs.json")["jobs"]
            except (StorageError, KeyError):
                continue
            for index, names in enumerate(jobs):
                ticket = Ticket(folder, index)
                if ticket in self:
                    found |= dict.fromkeys(names, ticket)
        return found


def submit(
    runs: Sequence[Run], machine: Machine, folder: Path, options: Options, limit: int | None
) -> dict[str, Ticket]:
    """Queue ``runs`` as one array, at most ``limit`` jobs at once; the job of each.

    Which run is in which job is written before sbatch is called, so that a kill in between loses nothing.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("the executor 'slurm' needs submitit: pip install 'equipoise[slurm]'") from None
    per_job = options.per_job or math.ceil(len(runs) / _LARGEST)
    chunks = [list(runs[k : k + per_job]) for k in range(0, len(runs), per_job)]
    storage.make_folder(folder)
    storage.write_bytes(folder / "jobs.json", json.dumps({"jobs": [[r.hash for r in c] for c in chunks]}).encode())
    threads = machine.threads or _whole(options.sbatch.get("cpus_per_task"))
    there = Machine(
        device=machine.device,
        threads=threads,
        data_dir=None if machine.data_dir is None else os.path.abspath(machine.data_dir),
        runs=os.path.abspath(machine.runs),
        checkpoint_every=machine.checkpoint_every,
        force=machine.force,
    )
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=options.requeues)
        executor.update_parameters(
            job_name=Ticket(folder, 0).name,
            time=options.minutes(),
            signal_delay_s=max(1, round(parse_duration(options.grace))),
            array_parallelism=limit or 256,
            stderr_to_stdout=False,
            setup=[options.setup] if options.setup else None,
            additional_parameters={"requeue": True, **{k.replace("_", "-"): v for k, v in options.sbatch.items()}},
        )
        with executor.batch():
            for chunk in chunks:
                executor.submit(Job.of(chunk, there, folder))
    except Exception as error:  # submitit raises what it likes; sbatch's own words are in it
        shutil.rmtree(folder, ignore_errors=True)
        said = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
        raise InputError(f"sbatch refuses the jobs: {' '.join(' '.join(said).split())}") from None
    return {run.hash: Ticket(folder, index) for index, chunk in enumerate(chunks) for run in chunk}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1
