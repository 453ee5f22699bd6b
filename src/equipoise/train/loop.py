"""The one loop that trains every rule: steps, epochs, checkpoints, all a pure function of (spec, step)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise import data
from equipoise.errors import StorageError
from equipoise.randomness import derive
from equipoise.train import evaluate, penalties, schedules, state, storage
from equipoise.train.balancing import balancing
from equipoise.train.machine import Machine
from equipoise.train.parts import Parts
from equipoise.train.progress import Progress
from equipoise.train.stop import Stopper
from equipoise.train.totals import Totals, all_finite, bad_weights, named, watched

__all__ = ["Loop"]

_REPORT_EVERY = 0.25


class Loop:
    """A training run in progress: ``step`` steps done, ``history`` with the metrics of every whole epoch.

    Step s (from 0) draws from the streams (seed, name, s) of the names "noise", "augment", "light" and "global";
    epoch e visits the samples in ``data.order(n, seed=seed, epoch=e)``. So no random state is ever saved.
    """

    def __init__(self, parts: Parts, folder: Path, machine: Machine, *, progress: Progress, stopper: Stopper) -> None:
        self.parts = parts
        self.folder = folder
        self.progress = progress
        self.ranks = parts.ranks
        self.stopper = self.ranks.stopper(stopper)
        self._own_stopper = stopper
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.per_epoch = -(-len(parts.train) // parts.run.batch_size)
        self.total = self.per_epoch * parts.run.epochs
        self.followed: list[dict[str, Any]] = []
        self._totals = Totals(parts.device, labelled=not parts.loss.of_input)
        self._balancing = balancing(parts)
        self._powers = penalties.strengths(parts.run.decay)
        self._noise, self._augment = torch.Generator(parts.device), torch.Generator()
        self._every = machine.checkpoint_every
        self._before = 0.0
        self._began = self._saved = self._reported = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on the run, sessions before this one included."""
        return self._before + time.monotonic() - self._began

    def run(self) -> str:
        """Train to the last epoch; the reason if something asked to stop on the way, after saving."""
        epochs = self.parts.run.epochs
        if self.step == 0 and self._balancing is not None:
            self._balancing.begin()
        while len(self.history) < epochs:
            reason = self._steps() or self._close() or self.stopper.reason
            if reason and len(self.history) < epochs:
                self.save()
                return reason
        return ""

    def weights(self) -> dict[str, Tensor]:
        """The state dict that the run's ``select`` chooses."""
        return self.best["weights"] if self.best is not None else self.parts.model.state_dict()

    def _steps(self) -> str:
        """The steps that are left of the current epoch, or a reason to stop between two of them."""
        run, epoch = self.parts.run, len(self.history)
        end = (epoch + 1) * self.per_epoch
        if self.step == end:
            return ""
        order = data.order(len(self.parts.train), seed=run.seed, epoch=epoch).to(self.parts.device)
        self.parts.model.train()
        while self.step < end:
            start = (self.step - epoch * self.per_epoch) * run.batch_size
            with watched(self.parts.parameters, self.step + 1):
                self._one(order[start : start + run.batch_size], order[start + run.batch_size :][: run.batch_size])
            self.step += 1
            reason = self._between()
            if reason:
                return reason
        return ""

    def _one(self, index: Tensor, following: Tensor) -> None:
        """One step: batch, backward by the rule, clipping, optimiser, upkeep; ``following`` comes next."""
        parts, run = self.parts, self.parts.run
        follow = run.measure_every and self.step % run.measure_every == 0
        count, ranks = len(index), self.ranks.over(len(index))
        mine = ranks.rows(count)
        x, y = parts.batch(parts.train, index if follow else index[mine])
        parts.train.ahead(following[ranks.rows(len(following))])
        x = x if follow else ranks.whole(x, count)
        if parts.augment is not None:
            x = parts.augment(x, self._augment.manual_seed(derive(run.seed, "augment", self.step)))
        if parts.light is not None:
            x = parts.light(x, self._augment.manual_seed(derive(run.seed, "light", self.step)))
        if follow:
            seed = derive(run.seed, "followed", self.step)
            row = evaluate.measured_on(parts, x, parts.target(x, y), seed=seed, taken=("step", "loss"))
            self.followed.append({"step": self.step, **row})
        x, y = x[mine], y[mine] if follow else y
        y = parts.target(x, y)
        seed_global(parts.device, derive(run.seed, "global", self.step))
        noise = self._noise.manual_seed(derive(run.seed, "noise", self.step))
        parts.optimizer.zero_grad(set_to_none=True)
        with parts.autocast():
            done = ranks.backward(parts.rule, x, y, count, noise)
        loss = self._totals.add(done.loss, done.output, y, step=self.step + 1, ranks=ranks)
        if follow:
            self.followed[-1]["loss"] = float(loss)
        if run.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(parts.parameters()), run.clip_norm)
        if self._balancing is not None:
            self._balancing.before_step(self.step, loss)
        if self._powers:
            penalties.add_penalties_(parts.model.parameters(), self._powers)
        parts.optimizer.step()
        schedules.step_scheduler(parts.scheduler, epoch=False)
        parts.rule.maintain()
        if self._balancing is not None:
            self._balancing.after_step()

    def _between(self) -> str:
        """Between two steps: show progress, checkpoint when it is time, pass on a reason to stop."""
        now = time.monotonic()
        reason, report, save = self.ranks.agree(
            self._own_stopper.reason, now - self._reported >= _REPORT_EVERY, now - self._saved >= self._every
        )
        if report:
            self._reported = now
            self._totals.check()
            self.progress.advance(self.step, self._totals.means()[0])
        if save:
            self.save()
        return reason

    def _close(self) -> str:
        """End an epoch: measure, step the schedule, select. Nothing changes when it is interrupted."""
        parts, run, epoch = self.parts, self.parts.run, len(self.history)
        self._check()
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": self.step,
            "lr": parts.optimizer.param_groups[0]["lr"],
        }
        row |= named("train", self._totals.means())
        seed_global(parts.device, derive(run.seed, "evaluate", epoch))
        splits: dict[str, Any] = {"validation": parts.validation, "test": parts.test}
        splits |= {"train_set": parts.train} if run.train_set else {}
        for name, split in splits.items():
            if split is None:
                continue
            found = self._evaluated(split, name)
            if found is None:
                return self.stopper.reason
            row |= found
        if run.alignment_batch:
            row |= evaluate.angles(parts, count=run.alignment_batch, seed=derive(run.seed, "alignment", epoch))
        if run.measures:
            last, seed = epoch + 1 == run.epochs, derive(run.seed, "measures", epoch)
            row |= evaluate.measured(parts, last=last, seed=seed, taken={*row, "seconds"})
        row["seconds"] = self.seconds
        schedules.step_scheduler(parts.scheduler, epoch=True)
        self._select(row)
        self.history.append(row)
        self._totals.reset()
        self.ranks.first(lambda: self._write(row))
        self.progress.epoch(row)
        return ""

    def _evaluated(self, split: data.Split, name: str) -> dict[str, float] | None:
        """Loss and accuracy on ``split``; None when something asks to stop on the way."""
        return evaluate.evaluate(self.parts, split, name, stopper=self.stopper)

    def _write(self, row: dict[str, Any]) -> None:
        """Write an epoch's metrics, and what was followed step by step where the run asks for it."""
        storage.append_line(self.folder / "metrics.jsonl", row)
        if self.parts.run.measure_every:
            storage.write_lines(self.folder / "trace.jsonl", self.followed)
        if self._balancing is None or not self.parts.run.trace_every:
            return
        if len(self.history) == self.parts.run.epochs:
            self._balancing.end(self.step)
        storage.write_lines(self.folder / "trace.jsonl", self._balancing.trace)

    def _select(self, row: dict[str, Any]) -> None:
        """Remember the weights of the best epoch so far, the earliest of equals."""
        select = self.parts.run.select
        if select == "last":
            return
        value = row[f"{select}_accuracy"]
        if self.best is None or value > self.best["value"]:
            weights = {name: item.clone() for name, item in _tensors(self.parts.model.state_dict()).items()}
            self.best = {"epoch": row["epoch"], "value": value, "weights": weights}

    def save(self) -> None:
        """Write a checkpoint; a bad state raises ``NotFinite`` instead, and the last good one is kept."""
        self._check()
        self.ranks.first(lambda: state.save(self.folder, self._state()))
        self._saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        parts = self.parts
        return {
            "hash": parts.run.hash,
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "totals": self._totals.state_dict(),
            "followed": self.followed,
            "balancing": None if self._balancing is None else self._balancing.state_dict(),
            "model": parts.model.state_dict(),
            "rule": parts.rule.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "scheduler": parts.scheduler.state_dict() if parts.scheduler is not None else None,
            "seconds": self.seconds,
            "conditions": self.conditions(),
        }

    def _check(self) -> None:
        """Raise ``NotFinite`` when a loss so far, or a weight now, is NaN or infinite (waits for the device)."""
        self._totals.check()
        if not all_finite(self.parts.parameters()):
            raise bad_weights(self.step)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint; conditions that change the bits are noted."""
        parts = self.parts
        if saved["hash"] != parts.run.hash:
            raise StorageError(f"the checkpoint in '{self.folder}' is of the run {saved['hash']}; use --force")
        try:
            parts.model.load_state_dict(saved["model"])
            parts.rule.load_state_dict(saved["rule"])
            parts.optimizer.load_state_dict(saved["optimizer"])
            if parts.scheduler is not None:
                parts.scheduler.load_state_dict(saved["scheduler"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise StorageError(
                f"the checkpoint in '{self.folder}' does not fit (did the model's code change?); "
                f"start anew with --force: {reason}"
            ) from None
        self.step, self.history, self.best = saved["step"], saved["history"], saved["best"]
        self.followed = saved.get("followed", [])
        self._totals.load_state_dict(saved["totals"])
        if self._balancing is not None:
            self._balancing.load_state_dict(saved["balancing"])
        self._before = saved["seconds"]
        for name, now in self.conditions().items():
            then = saved["conditions"].get(name)
            if then != now:
                self.progress.note(f"{name} was {then} and is {now} now: the last bits may differ")
        self.progress.note(f"resumed at step {self.step} of {self.total}")

    def conditions(self) -> dict[str, Any]:
        """What changes the bits of a result without being in its hash."""
        return {
            "device": f"{self.parts.device}{self.ranks.name}",
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "note": self.parts.note,
        }


def seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generators of the CPU and of ``device`` (``torch.manual_seed`` is 50 times slower)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _tensors(weights: dict[str, Any]) -> dict[str, Tensor]:
    return {name: item for name, item in weights.items() if isinstance(item, Tensor)}
