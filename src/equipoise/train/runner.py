"""From a spec to a finished folder: never twice, one process at a time, resumed where it stopped."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from pathlib import Path

from equipoise._version import __version__
from equipoise.errors import EquipoiseError, StorageError
from equipoise.train import lock, state, storage
from equipoise.train.loop import Loop
from equipoise.train.machine import Machine
from equipoise.train.parts import build, shared, usable
from equipoise.train.progress import Progress, Quiet
from equipoise.train.ranks import ALONE, Ranks
from equipoise.train.spec import Run
from equipoise.train.stop import Stopper
from equipoise.train.summary import Summary, commit
from equipoise.train.surroundings import kept, threads
from equipoise.train.sweeps import Sweeps
from equipoise.train.totals import NotFinite

__all__ = [
    "diverged_before",
    "finish",
    "finished",
    "prepare",
    "resume",
    "stopped",
    "summarise",
    "train",
]

_FILES = ("spec.json", "metrics.jsonl", "trace.jsonl", "summary.json", "weights.safetensors")


def finished(run: Run, runs: str | Path) -> Summary | None:
    """The summary of ``run`` when it has finished under ``runs``, else None; a spec that was cut is written again.

    Raises ``StorageError`` when ``summary.json`` is there but damaged: it may belong to a finished run.
    """
    folder = run.folder(runs)
    if not (folder / "summary.json").exists():
        return None
    try:
        summary = Summary.read(folder)
    except StorageError as error:
        raise StorageError(
            f"{error}; repair it, or remove the folder and train it anew (--force: and all runs of the command)"
        ) from None
    if summary.status != "finished":
        return None
    if summary.hash != run.hash:
        raise StorageError(f"the summary in '{folder}' is that of another run, {summary.hash}; remove the folder")
    _mend(run, folder)
    return summary


def _mend(run: Run, folder: Path) -> None:
    """Write the spec of a finished run again where it was cut or edited: the folder's name says what was trained.

    One that was trained for a changed preset, and is of the preset itself, takes its name. Where nobody may write, all
    stays as it is.
    """
    with contextlib.suppress(EquipoiseError):
        found = Run.from_json(storage.read_text(folder / "spec.json"))
        if found.hash == run.hash and found.preset != f"{run.preset} (changed)":
            return
    with contextlib.suppress(StorageError):
        storage.write_bytes(folder / "spec.json", run.to_json().encode())


def diverged_before(run: Run, runs: str | Path) -> Summary | None:
    """The summary of ``run`` when it has diverged under ``runs``, as it would again; None where it has not."""
    with contextlib.suppress(StorageError):
        summary = Summary.read(run.folder(runs))
        if summary.hash == run.hash and summary.diverged:
            _mend(run, run.folder(runs))
            return summary
    return None


def train(
    run: Run, machine: Machine | None = None, *, progress: Progress | None = None, stopper: Stopper | None = None
) -> Summary:
    """Train ``run`` in its folder; go on where it stopped; return a finished one's summary at once.

    Under torchrun all ranks train it together. Ctrl-C, SIGTERM and the machine's time limit end it with a checkpoint
    and the status "stopped". Raises ``InputError`` for parts that do not exist or do not fit, ``RunError`` for a loss
    that is not finite, and ``StorageError`` for files that cannot be read or written; a summary with the status
    "failed" is written whenever the run itself fails.
    """
    machine = machine if machine is not None else Machine()
    ranks = Ranks.here(machine.device)
    progress = progress if progress is not None and ranks.rank == 0 else Quiet()
    if stopper is None:
        stopper = Stopper(machine.time_limit, patience=ranks.several)
    folder = run.folder(machine.runs)
    with ranks.together(NotFinite):
        done = ranks.first(lambda: None if machine.force else finished(run, machine.runs))
        if done is not None:
            progress.note("finished before, so nothing is trained; --force trains it anew")
            return done
        own = ranks.every(lambda: ranks.machine(machine))
        with threads(machine.threads), kept(ranks.every(lambda: usable(own.device))):
            parts = ranks.every(lambda: shared(build(run, own), ranks))
            with contextlib.ExitStack() as held:
                done = ranks.first(lambda: _claim(held, run, machine, folder))
                if done is not None:
                    return done
                loop = _kind(run)(parts, folder, machine, progress=progress, stopper=stopper)
                summary = _drive(loop, run, machine, stopper)
    if summary.status == "finished":
        stopper.pass_on()
    return summary


def _claim(held: contextlib.ExitStack, run: Run, machine: Machine, folder: Path) -> Summary | None:
    """Take the folder for this process, as long as ``held`` is open; the summary if the run is finished by now."""
    storage.make_folder(folder)
    held.enter_context(lock.hold(folder))
    return prepare(run, machine, folder)


def _kind(run: Run) -> type[Loop]:
    """The loop that runs ``run``: training, or sweeps of balancing."""
    return Sweeps if run.balance_repeats else Loop


def prepare(run: Run, machine: Machine, folder: Path) -> Summary | None:
    """Clear what is in the way; the summary when another process has finished the run meanwhile."""
    try:
        for left in folder.glob(".*.tmp"):
            left.unlink()
        if machine.force:
            state.discard(folder)
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot clear '{folder}': {error.strerror}") from None
    done = finished(run, machine.runs)
    if done is None:
        storage.write_bytes(folder / "spec.json", run.to_json().encode())
    return done


def _drive(loop: Loop, run: Run, machine: Machine, stopper: Stopper) -> Summary:
    """Run the loop and write how it ended; the progress display is closed whatever happens."""
    progress, folder, ranks = loop.progress, loop.folder, loop.ranks
    progress.start(run, loop.total)
    ended = summarise(loop, "stopped", message="aborted; the last checkpoint is kept")
    try:
        with ranks.together(NotFinite):
            resume(loop)
            with stopper.listening():
                reason = loop.run()
            ended = ranks.first(lambda: stopped(loop, machine, reason) if reason else finish(loop))
        return ended
    except Exception as error:
        kind = "" if isinstance(error, EquipoiseError) else f"{type(error).__name__}: "
        message = " ".join(f"{kind}{error}".split())
        ended = summarise(loop, "failed", message=message)
        if ranks.rank == 0:
            with contextlib.suppress(StorageError):
                ended.write(folder)
        raise
    finally:
        progress.finish(ended)


def resume(loop: Loop) -> None:
    """Bring loop and metrics to the newest whole checkpoint, if there is one."""
    saved, note = loop.ranks.first(lambda: state.load(loop.folder))
    if note:
        loop.progress.note(note)
    if saved is not None:
        loop.ranks.every(lambda: loop.restore(saved))
    loop.ranks.first(lambda: storage.write_lines(loop.folder / "metrics.jsonl", loop.history))


def stopped(loop: Loop, machine: Machine, reason: str) -> Summary:
    """The summary of a run that stops before its end, written."""
    message = f"stopped at step {loop.step} of {loop.total} ({reason}); {again(loop.folder, machine, loop.ranks)}"
    summary = summarise(loop, "stopped", cause=reason, message=message)
    summary.write(loop.folder)
    return summary


def finish(loop: Loop) -> Summary:
    """Weights, metrics, then the summary, which alone makes a run finished; then its checkpoints can go."""
    storage.write_weights(loop.folder / "weights.safetensors", loop.weights())
    storage.write_lines(loop.folder / "metrics.jsonl", loop.history)
    chosen = loop.best["epoch"] if loop.best is not None else len(loop.history)
    summary = summarise(loop, "finished", selected_epoch=chosen)
    summary.write(loop.folder)
    with contextlib.suppress(OSError):
        state.discard(loop.folder)
    return summary


def summarise(loop: Loop, status: str, *, selected_epoch: int = 0, cause: str = "", message: str = "") -> Summary:
    """How the run in ``loop`` stands, as its summary."""
    return Summary(
        status=status,
        hash=loop.parts.run.hash,
        epoch=len(loop.history),
        steps=loop.step,
        metrics=storage.finite(loop.history[-1]) if loop.history else {},
        selected_epoch=selected_epoch,
        selected=storage.finite(loop.history[selected_epoch - 1]) if selected_epoch else {},
        seconds=loop.seconds,
        parameters=sum(parameter.numel() for parameter in loop.parts.model.parameters()),
        equipoise=__version__,
        commit=commit(),
        cause=cause,
        message=message,
        **loop.conditions(),
    )


def again(folder: Path, machine: Machine, ranks: Ranks = ALONE) -> str:
    """How to go on with the run in ``folder``."""
    program = ["equipoise"] if shutil.which("equipoise") else [sys.executable, "-m", "equipoise"]
    if ranks.several:
        program = ["torchrun", "--nproc-per-node", str(ranks.size), "-m", "equipoise"]
    command = [*program, "run", "--spec", str(folder / "spec.json"), *machine.arguments()]
    return f"go on with: {shlex.join(command)}"
