"""From specs to finished folders, many runs at once: each folder is what a solo run would leave behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise import data
from equipoise.errors import EquipoiseError, StorageError
from equipoise.population import alike
from equipoise.population.population import Population, assemble
from equipoise.train import Machine, Progress, Run, Summary, finished
from equipoise.train import runner as solo
from equipoise.train.lock import hold
from equipoise.train.loop import Loop
from equipoise.train.parts import Parts, usable
from equipoise.train.progress import Quiet
from equipoise.train.stop import Stopper
from equipoise.train.storage import make_folder
from equipoise.train.surroundings import kept, threads
from equipoise.train.totals import bad_loss, bad_weights

__all__ = ["train"]

# A checkpoint of all members may cost this share of the time between two at most.
_SHARE = 0.05
_REPORT_EVERY = 0.25


class Member(Loop):
    """One run's side of a population: its history, files and checkpoints, as if it trained alone.

    ``found`` has what the population measured, by split. Its seconds are its share of the population's.
    """

    def __init__(self, parts: Parts, folder: Path, machine: Machine, *, members: int, stopper: Stopper) -> None:
        super().__init__(parts, folder, machine, progress=Quiet(), stopper=stopper)
        self.members, self.hash = members, parts.run.hash
        self.found: dict[str, dict[str, float]] = {}

    @property
    def seconds(self) -> float:
        """The share of one member in the time of the whole."""
        return self._before + (time.monotonic() - self._began) / self.members

    def _evaluated(self, split: data.Split, name: str) -> dict[str, float] | None:
        return self.found.get(name)

    def at(self, step: int, totals: dict[str, Any]) -> None:
        """Stand where the population stands."""
        self.step = step
        self._totals.load_state_dict(totals)

    def totals(self) -> dict[str, Any]:
        """The sums of the epoch under way."""
        return self._totals.state_dict()

    def close(self) -> None:
        """End an epoch: a line of metrics, the schedule, the selection."""
        self._close()


def train(runs: Sequence[Run], machine: Machine | None = None, *, progress: Progress | None = None) -> list[Summary]:
    """Train ``runs`` as one population, each in its own folder, and return one summary per run, in their order.

    Folders, checkpoints and the way to stop are a solo run's (``train.train``): what a population began, a solo run can
    go on with, and the other way round. A member that diverges has the status "failed" and its message. Raises
    ``Refused``, with nothing written, where the runs are no population, and ``InputError`` as a solo run would.
    """
    machine = machine if machine is not None else Machine()
    progress = progress if progress is not None else Quiet()
    alike.check_runs(runs)
    done = {run.hash: None if machine.force else finished(run, machine.runs) for run in runs}
    waiting = list({run.hash: run for run in runs if done[run.hash] is None}.values())
    results = {name: summary for name, summary in done.items() if summary is not None}
    if waiting:
        stopper = Stopper(machine.time_limit)
        with threads(machine.threads), kept(usable(machine.device)), contextlib.ExitStack() as locks:
            results |= _trained(waiting, machine, progress, stopper, locks)
        if all(summary.status == "finished" for summary in results.values()):
            stopper.pass_on()
    return [results[run.hash] for run in runs]


def _trained(
    runs: Sequence[Run], machine: Machine, progress: Progress, stopper: Stopper, locks: contextlib.ExitStack
) -> dict[str, Summary]:
    parts = assemble(runs, machine)
    whole = Population(runs, machine, parts=parts)  # refuses before anything is written
    members, results = [], {}
    for run, one in zip(runs, parts, strict=True):
        folder = run.folder(machine.runs)
        make_folder(folder)
        locks.enter_context(hold(folder))
        summary = solo.prepare(run, machine, folder)
        if summary is not None:
            results[run.hash] = summary
            continue
        members.append(Member(one, folder, machine, members=len(runs), stopper=stopper))
        try:
            solo.resume(members[-1])
        except StorageError as error:
            results[run.hash] = _failed(members.pop(), str(error))
    stages = sorted({member.step for member in members})
    with stopper.listening():
        for step in stages:
            together = [member for member in members if member.step == step]
            one = whole if len(together) == len(parts) else _again(together, machine)
            results |= _Bucket(one, together, machine, progress, stopper).run()
    return results


def _again(members: Sequence[Member], machine: Machine) -> Population:
    """The population of some of the members alone."""
    return Population([one.parts.run for one in members], machine, parts=[one.parts for one in members])


class _Bucket:
    """Members at one step, on their way to the last."""

    def __init__(
        self,
        population: Population,
        members: Sequence[Member],
        machine: Machine,
        progress: Progress,
        stopper: Stopper,
    ) -> None:
        self.population, self.members = population, members
        self.machine, self.progress, self.stopper = machine, progress, stopper
        self.step, self.total = members[0].step, members[0].total
        self.results: dict[str, Summary] = {}
        if self.step:
            self.population.absorb(self.step, [one.totals() for one in members])
            progress.note(f"{len(members)} runs resumed at step {self.step} of {self.total}")
        self._saved = self._reported = time.monotonic()
        self._every = machine.checkpoint_every

    def run(self) -> dict[str, Summary]:
        """Train to the last epoch, or until something asks to stop; a summary for each member."""
        self.progress.start(self.members[0].parts.run, self.total, members=len(self.members))
        per_epoch = self.population.per_epoch
        while self.living() and self.step < self.total:
            end = (len(self.living()[0].history) + 1) * per_epoch
            while self.step < end and not self.stopper.reason:
                self.population.step()
                self.step += 1
                self._between()
            reason = self.stopper.reason if self.step < end else self._close()
            if (reason or self.stopper.reason) and self.step < self.total:
                return self._stop(reason or self.stopper.reason)
        for member in self.living():
            self._end(member, solo.finish(member))
        return self.results

    def living(self) -> list[Member]:
        """The members that have not ended."""
        return [one for one in self.members if one.hash not in self.results]

    def _end(self, member: Member, summary: Summary) -> None:
        self.results[member.hash] = summary
        self.progress.finish(summary)

    def _between(self) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY:
            self._reported = now
            self._bury(weights=False)
            self.progress.advance(self.step, self.population.mean_loss())
        if now - self._saved >= self._every:
            self._save()

    def _bury(self, *, weights: bool) -> None:
        """End the members whose loss, or whose weights, are not finite (waits for the device)."""
        bad = self.population.bad.tolist()
        whole = self.population.weights_finite() if weights else [True] * len(bad)
        for place, member in enumerate(self.members):
            if member.hash in self.results:
                continue
            if bad[place]:
                member.step = bad[place] - 1
                self._end(member, _failed(member, str(bad_loss(bad[place]))))
            elif not whole[place]:
                member.step = self.step
                self._end(member, _failed(member, str(bad_weights(self.step))))
                self.population.drop(place)

    def _close(self) -> str:
        """End an epoch: measure all members, and let each write its own line."""
        self._bury(weights=True)
        run = self.members[0].parts.run
        names = [*(["validation"] if run.validation else []), "test", *(["train_set"] if run.train_set else [])]
        found = {name: self.population.evaluate(name, stopper=self.stopper) for name in names} if self.living() else {}
        if any(rows is None for rows in found.values()):
            return self.stopper.reason
        for place, member in enumerate(self.members):
            if member in self.living():
                self.population.release(place)
                member.at(self.step, self.population.totals(place))
                member.found = {name: rows[place] for name, rows in found.items() if rows is not None}
                try:
                    member.close()
                except EquipoiseError as error:
                    self._end(member, _failed(member, str(error)))
                    self.population.drop(place)
        self.population.reset()
        self._tell()
        return ""

    def _tell(self) -> None:
        """Show an epoch: the mean over the members that live, of what each of them measured."""
        rows = [one.history[-1] for one in self.living()]
        if rows:
            means = {
                name: sum(row[name] for row in rows) / len(rows)
                for name, value in rows[0].items()
                if isinstance(value, float) and all(isinstance(row.get(name), float) for row in rows)
            }
            self.progress.epoch({**means, "epoch": rows[0]["epoch"], "step": self.step})

    def _save(self) -> None:
        """A checkpoint of every living member in its own folder; the next not before this one is paid off."""
        began = time.monotonic()
        self._bury(weights=True)
        for place, member in enumerate(self.members):
            if member in self.living():
                self.population.release(place)
                member.at(self.step, self.population.totals(place))
                member.save()
        self._saved = time.monotonic()
        self._every = max(self.machine.checkpoint_every, (self._saved - began) / _SHARE)

    def _stop(self, reason: str) -> dict[str, Summary]:
        self._save()
        for member in self.living():
            self._end(member, solo.stopped(member, self.machine, reason))
        return self.results


def _failed(member: Member, message: str) -> Summary:
    """The summary of a member that ended too early, written where that is possible."""
    summary = solo.summarise(member, "failed", message=" ".join(message.split()))
    with contextlib.suppress(StorageError):
        summary.write(member.folder)
    return summary
