"""Many networks of one architecture, trained as one batched computation."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise import data
from equipoise.errors import InputError
from equipoise.nn import constraints_of
from equipoise.population import alike, trials, widths
from equipoise.population.alike import Refused
from equipoise.population.capture import Captured, CudaGraphs, Step
from equipoise.population.core import Core, Tensors
from equipoise.population.feed import Feed
from equipoise.population.measuring import evaluate
from equipoise.population.updates import Updates
from equipoise.population.views import shared
from equipoise.rules.report import Step as Report
from equipoise.train import Machine, Run
from equipoise.train.parts import Parts, build, usable
from equipoise.train.stop import Stopper

__all__ = ["Population"]


class Population:
    """The networks of ``runs``, side by side in stacked tensors: one step trains each of them by its own batch.

    Members share an architecture, a rule, an optimiser, data, batch size and number of epochs, and differ in seeds,
    widths of layers, learning rates and schedules, numbers of the optimiser, weights of losses, penalties, clipping and
    light. Each is its solo run, to rounding. A member whose loss is not finite is noted (``bad``) and changes no more.
    Raises ``Refused`` where these runs are no population, ``InputError`` as a solo run would.

    >>> members = Population([Run(lr=0.1), Run(lr=0.2, seed=1)])
    >>> losses = members.step()
    """

    def __init__(
        self, runs: Sequence[Run], machine: Machine | None = None, *, parts: Sequence[Parts] | None = None
    ) -> None:
        machine = machine if machine is not None else Machine()
        alike.check_runs(runs)
        self.parts = assemble(runs, machine) if parts is None else list(parts)
        lead = self.parts[0]
        if len({len(one.train) for one in self.parts}) > 1:
            raise Refused("different runs", "their training sets are not equally large")
        alike.check_rule(lead.run.rule, lead.rule)
        alike.check_models([one.model for one in self.parts])
        self.device, self.members = lead.device, len(self.parts)
        self.feed = Feed(self.parts)
        self.per_epoch = self.feed.per_epoch
        rules = [one.rule for one in self.parts]
        trials.check_outputs(rules)
        self.tensors = Tensors.of(rules)
        self.dtype = next(iter(self.tensors.trained.values())).dtype
        x, y = self.feed.batch(0)
        trials.check_padding(rules, x, y)
        self.core = Core.of(rules, x[0, :1])
        self.done = 0
        self.alive = torch.ones(self.members, dtype=torch.bool, device=self.device)
        self.bad = torch.zeros(self.members, dtype=torch.int64, device=self.device)
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss, self.right = (torch.zeros(self.members, dtype=wide, device=self.device) for _ in range(2))
        self.seen = 0
        self.updates = Updates(self.parts, self._trial(), self.tensors)
        self.stepper: Step = self._update
        if self.device.type == "cuda":
            self.stepper = Captured(self._update, CudaGraphs(self.device), note=logging.getLogger("equipoise").warning)

    def _stream(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)

    def _trial(self) -> list[str]:
        """The names that learn; ``Refused`` where the pure gradients of two members cannot be had, or are others."""
        lead = self.parts[0]
        model, rule = copy.deepcopy((lead.model, lead.rule))
        model.train()
        x, y = self.feed.batch(0)
        rows = min(x.shape[1], 8)
        x, y = x[:, :rows], y[:, :rows]
        drawn = [one.rule.draw(x[0], self._stream()) for one in self.parts]
        noise, _ = widths.joined(drawn, [widths.blocks(one.rule) for one in self.parts])
        try:
            grads, *_ = self.core.gradients(self.tensors, x, y, noise)
        except InputError:
            raise
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Refused(
                "no batched form", f"the model '{lead.run.model}' under '{lead.run.rule}': {reason}"
            ) from error
        rule.backward(x[0], y[0], generator=self._stream())
        written = {n: p.grad for n, p in rule.slots.parameters().items() if p.grad is not None and n in grads}
        apart = math.hypot(*(float((self.tensors.own(n, grads[n][0], 0) - g).norm()) for n, g in written.items()))
        size = math.hypot(*(float(g.norm()) for g in written.values()))
        if math.isfinite(size) and apart > (1e-9 if self.dtype == torch.float64 else 1e-3) * size:
            raise Refused("impure", f"the rule '{lead.run.rule}' writes other gradients in training")
        return list(written)

    def absorb(self, done: int, totals: Sequence[Mapping[str, Any]]) -> None:
        """Take the members' networks and optimisers as they are now, after ``done`` steps; ``totals`` of the epoch."""
        self.tensors = Tensors.of([one.rule for one in self.parts])
        self.updates.absorb(done, self.tensors)
        self.done = done
        self.loss.copy_(torch.tensor([one["loss"] for one in totals]))
        self.right.copy_(torch.tensor([one["right"] for one in totals]))
        self.seen = int(totals[0]["count"])

    def drop(self, member: int) -> None:
        """Let one member change no more."""
        self.alive[member] = False

    def mean_loss(self) -> float:
        """The mean loss of the epoch so far over the members that are alive (waits for the device)."""
        alive = self.loss[self.alive]
        return float(alive.mean()) / self.seen if self.seen and len(alive) else math.nan

    @torch.no_grad()
    def release(self, member: int) -> Parts:
        """One member as a solo run would hold it now: network, and optimiser with what it keeps."""
        one = self.parts[member]
        self.tensors.release(member, one.rule)
        self.updates.release(member, self.done, self.tensors)
        return one

    # Training.

    def step(self) -> Tensor:
        """Train every member by its next batch; their losses (M,)."""
        x, y = self.feed.batch(self.done)
        noise = self.feed.noise(x, self.done)
        self.updates.move(self.done // self.per_epoch)
        loss = self.stepper(x, y, noise)
        self.updates.moved()
        self.seen += y.shape[1]
        self.done += 1
        if self.done == 1:
            self._settle()
        return loss

    @torch.no_grad()
    def _update(self, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """One step of all members from stacked batches; nothing of a member whose loss is not finite moves."""
        grads, step, buffers = self.core.gradients(self.tensors, x, y, noise)
        finite = step.loss.isfinite()
        self.bad.copy_(torch.where(self.alive & ~finite, self.updates.count.to(torch.int64) + 1, self.bad))
        self.alive.logical_and_(finite)
        self._count(step, y)
        self.updates.apply_(self.tensors, grads, self.alive)
        for name, value in buffers.items():
            held = self.tensors.buffers[name]
            held.copy_(torch.where(self.tensors.active(name, held, self.alive), value, held))
        return step.loss

    @torch.no_grad()
    def _settle(self) -> None:
        """Bring weights that do not learn into their sets, where a first update brings them in a solo run."""
        for name, constraint in constraints_of(self.parts[0].model).items():
            if name in self.tensors.fixed:
                fixed = self.tensors.fixed[name]
                moved = torch.func.vmap(constraint.project)(fixed)
                fixed.copy_(torch.where(self.tensors.active(name, fixed, self.alive), moved, fixed))

    def _count(self, step: Report, y: Tensor) -> None:
        self.loss.add_(step.loss.to(self.loss.dtype), alpha=y.shape[1])
        if not self.parts[0].loss.of_input:
            self.right.add_((step.output.argmax(-1) == y).sum(-1))

    def weights_finite(self) -> list[bool]:
        """For each member, whether all that it trains is finite (waits for the device)."""
        checks = [w.flatten(1).isfinite().all(1) for w in self.tensors.trained.values()]
        return torch.stack(checks).all(0).tolist()

    def totals(self, member: int) -> dict[str, Any]:
        """The sums of the epoch so far, as a solo run's checkpoint has them."""
        return {"loss": float(self.loss[member]), "right": float(self.right[member]), "count": self.seen}

    def reset(self) -> None:
        """Start the sums of the next epoch."""
        self.loss.zero_()
        self.right.zero_()
        self.seen = 0

    def evaluate(self, name: str, *, stopper: Stopper | None = None) -> list[dict[str, float]] | None:
        """Each member's loss and accuracy on its split ``name``: "train_set", "validation" or "test".

        None when ``stopper`` asks to stop on the way.
        """
        return evaluate(self.core, self.tensors, self.parts, name, stopper=stopper)


def assemble(runs: Sequence[Run], machine: Machine) -> list[Parts]:
    """The parts of every run, over one copy of their data."""
    dataset = shared(data.load(runs[0].data, folder=machine.data_dir), usable(machine.device))
    return [build(run, machine, dataset) for run in runs]
