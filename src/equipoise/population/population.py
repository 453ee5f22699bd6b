"""Many networks of one architecture, trained as one batched computation."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise import data
from equipoise.errors import InputError
from equipoise.nn import constraints_of
from equipoise.population import alike, optimisers
from equipoise.population.alike import Refused
from equipoise.population.core import Core, Tensors
from equipoise.population.feed import Feed
from equipoise.population.optimisers import along
from equipoise.population.views import View, shared
from equipoise.rules.report import Step
from equipoise.train import Machine, Run, penalties, schedules
from equipoise.train.parts import Parts, build, usable
from equipoise.train.stop import Stopper
from equipoise.train.totals import named

__all__ = ["Population"]

_ELEMENTS = 2**22
_AT_ONCE = 2**27


class Population:
    """The networks of ``runs``, side by side in stacked tensors: one step trains each of them by its own batch.

    Members share an architecture, a rule, an optimiser, data, batch size and number of epochs, and differ in seeds,
    learning rates and schedules, numbers of the optimiser, weights of losses, penalties, clipping and light. Each is
    its solo run, to rounding. A member whose loss is not finite is noted (``bad``) and changes no more.
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
        chosen = optimisers.kind(lead.run.optimizer, lead.run.optimizer_options)
        assert not isinstance(chosen, str)
        self.kind, self.device, self.members = chosen, lead.device, len(self.parts)
        self.feed = Feed(self.parts)
        self.per_epoch = self.feed.per_epoch
        rules = [one.rule for one in self.parts]
        self.tensors = Tensors.of(rules)
        self.dtype = next(iter(self.tensors.trained.values())).dtype
        self.core = Core(lead.rule, {place: self._row(found) for place, found in alike.scalars(rules).items()})
        self.done = 0
        self.alive = torch.ones(self.members, dtype=torch.bool, device=self.device)
        self.bad = torch.zeros(self.members, dtype=torch.int64, device=self.device)
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss, self.right = (torch.zeros(self.members, dtype=wide, device=self.device) for _ in range(2))
        self.seen = 0
        self.credited = self._trial()
        self._numbers()
        constraints = constraints_of(lead.model)
        self.held = {n: c for n, c in constraints.items() if n in self.tensors.trained}
        for name, constraint in constraints.items():
            if name in self.tensors.fixed:
                self.tensors.fixed[name].copy_(torch.func.vmap(constraint.project)(self.tensors.fixed[name]))

    def _row(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(list(values), dtype=self.dtype, device=self.device)

    # What the members bring along.

    def _numbers(self) -> None:
        """Stack rates, numbers of the optimisers and what they keep, strengths of penalties, norms to clip at."""
        runs = [one.run for one in self.parts]
        found = [optimisers.numbers(self.kind, run.optimizer_options) for run in runs]
        self.numbers = {key: self._row([one[key] for one in found]) for key in self.kind.numbers}
        by_name = [{n: p for n, p in one.rule.slots.parameters().items()} for one in self.parts]
        self._parameters = [{n: held[n] for n in self.credited} for held in by_name]
        self._groups = []
        for one, held in zip(self.parts, self._parameters, strict=True):
            owner = {id(p): group for group in one.optimizer.param_groups for p in group["params"]}
            self._groups.append({n: owner[id(p)] for n, p in held.items()})
        self.rates = {n: torch.zeros(self.members, dtype=self.dtype, device=self.device) for n in self.credited}
        self._shown: tuple[float, ...] = ()
        self._moving = any(isinstance(one.scheduler, schedules.WarmupCosine) for one in self.parts)
        self.state = {
            n: {key: torch.zeros_like(self.tensors.trained[n]) for key in self.kind.kept} for n in self.credited
        }
        powers = [penalties.strengths(run.decay) for run in runs]
        self.powers = {p: self._row([one.get(p, 0.0) for one in powers]) for p in sorted({p for s in powers for p in s})}
        norms = [run.clip_norm for run in runs]
        self.clip = None if norms == [None] * len(norms) else self._row([math.inf if c is None else c for c in norms])
        self.updates = torch.zeros((), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        self.updates = self.updates.to(self.device)

    def _trial(self) -> list[str]:
        """The names that learn; ``Refused`` where the pure gradients of two members cannot be had, or are others."""
        lead = self.parts[0]
        model, rule = copy.deepcopy((lead.model, lead.rule))
        model.train()
        x, y = self.feed.batch(0)
        rows = min(x.shape[1], 8)
        x, y = x[:, :rows], y[:, :rows]
        streams = [torch.Generator(self.device).manual_seed(0) for _ in range(2)]
        noise = rule.draw(x[0], streams[0])
        many = {n: t.expand(self.members, *t.shape) for n, t in noise.items()}
        try:
            grads, *_ = self.core.gradients(self.tensors, x, y, many)
        except InputError:
            raise
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Refused("no batched form", f"the model '{lead.run.model}' under '{lead.run.rule}': {reason}") from error
        rule.backward(x[0], y[0], generator=streams[1])
        credited = []
        loose = 1e-9 if self.dtype == torch.float64 else 1e-3
        for name, parameter in rule.slots.parameters().items():
            if parameter.grad is None or name not in grads:
                continue
            credited.append(name)
            apart, size = (grads[name][0] - parameter.grad).norm(), parameter.grad.norm()
            if bool(apart > loose * size + 1e-30) and bool(size.isfinite()):
                raise Refused("impure", f"'{lead.run.rule}' gives '{name}' another gradient in training")
        return credited

    def absorb(self, done: int) -> None:
        """Take the members' networks and optimisers as they are now, after ``done`` steps."""
        self.tensors = Tensors.of([one.rule for one in self.parts])
        for name, kept in self.state.items():
            for key, stack in kept.items():
                for member, one in enumerate(self.parts):
                    found = one.optimizer.state.get(self._parameters[member][name], {}).get(key)
                    stack[member] = 0 if found is None else found
        self.updates.fill_(done)
        self.done = done

    @torch.no_grad()
    def release(self, member: int) -> Parts:
        """One member as a solo run would hold it now: network, and optimiser with what it keeps."""
        one = self.parts[member]
        self.tensors.release(member, one.rule)
        for name, kept in self.state.items() if self.done else ():
            found = {key: stack[member].clone() for key, stack in kept.items()}
            if "momentum_buffer" in found:
                found = found if float(self.numbers["momentum"][member]) else {}
            else:
                found["step"] = torch.tensor(float(self.done))
            one.optimizer.state[self._parameters[member][name]] = found
        return one

    # Training.

    def step(self) -> Tensor:
        """Train every member by its next batch; their losses (M,)."""
        x, y = self.feed.batch(self.done)
        noise = self.feed.noise(x, self.done)
        self._move_rates()
        loss = self._update(x, y, noise)
        self.seen += y.shape[1]
        self.done += 1
        for one in self.parts if self._moving else ():
            schedules.step_scheduler(one.scheduler, epoch=False)
        return loss

    def _move_rates(self) -> None:
        """Bring the rates to where the members' schedules are."""
        epoch = self.done // self.per_epoch
        for one in self.parts:
            while one.scheduler is not None and one.scheduler.last_epoch < epoch and not self._moving:
                schedules.step_scheduler(one.scheduler, epoch=True)
        now = tuple(group["lr"] for one in self.parts for group in one.optimizer.param_groups)
        if now != self._shown:
            self._shown = now
            for name, rate in self.rates.items():
                rate.copy_(self._row([groups[name]["lr"] for groups in self._groups]))

    @torch.no_grad()
    def _update(self, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """One step of all members from stacked batches; nothing of a member whose loss is not finite moves."""
        grads, step, buffers = self.core.gradients(self.tensors, x, y, noise)
        finite = step.loss.isfinite()
        self.bad.copy_(torch.where(self.alive & ~finite, self.updates.to(torch.int64) + 1, self.bad))
        self.alive.logical_and_(finite)
        self._count(step, y)
        grads = self._penalised(self._clipped({n: grads[n] for n in self.credited}))
        for name, g in grads.items():
            w, rate = self.tensors.trained[name], along(self.rates[name], g)
            given = {key: along(value, g) for key, value in self.numbers.items()}
            new, kept = self.kind.update(w, g, self.state[name], given, rate, self.updates)
            if name in self.held:
                new = torch.func.vmap(self.held[name].project)(new)
            w.copy_(torch.where(along(self.alive, w), new, w))
            for key, value in kept.items():
                self.state[name][key].copy_(value)
        for name, value in buffers.items():
            held = self.tensors.buffers[name]
            held.copy_(torch.where(along(self.alive, held), value, held))
        self.updates.add_(1)
        return step.loss

    def _count(self, step: Step, y: Tensor) -> None:
        self.loss.add_(step.loss.to(self.loss.dtype), alpha=y.shape[1])
        if not self.parts[0].loss.of_input:
            self.right.add_((step.output.argmax(-1) == y).sum(-1))

    def _clipped(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.clip is None:
            return grads
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
        factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        return {n: g * along(factor, g) for n, g in grads.items()}

    def _penalised(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        for p, strengths in self.powers.items():
            for name, g in grads.items():
                w = self.tensors.trained[name]
                slope = w if p == 2 else w.sign() if p == 1 else w.sign() * w.abs().pow(p - 1)
                grads[name] = g + along(strengths, g) * slope
        return grads

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

    # Measuring.

    @torch.no_grad()
    def evaluate(self, name: str, *, stopper: Stopper | None = None) -> list[dict[str, float]] | None:
        """Each member's ``name_loss``, ``name_accuracy`` (and top k) on its split: train_set, validation or test.

        None when ``stopper`` asks to stop on the way.
        """
        splits = [one.train if name == "train_set" else getattr(one, name) for one in self.parts]
        lead, top, common = self.parts[0], self.parts[0].run.top_k, _one_split(splits)
        size = math.prod(splits[0].shape)
        rows = max(lead.run.batch_size, min(1024, _ELEMENTS // size))
        rows = rows if common else max(1, min(rows, _AT_ONCE // (size * self.members)))
        loss, right, among = (torch.zeros_like(self.loss) for _ in range(3))
        for start in range(0, len(splits[0]), rows):
            if stopper is not None and stopper.reason:
                return None
            index = torch.arange(start, min(start + rows, len(splits[0])), device=splits[0].labels.device)
            pairs = [one.batch(split, index) for one, split in zip(self.parts, splits, strict=True)][: 1 if common else None]
            x, y = pairs[0] if common else (torch.stack(both) for both in zip(*pairs, strict=True))
            output = self.core.scores(self.tensors, x, shared=common)
            y = y.expand(self.members, *y.shape) if common else y
            target = x.flatten(1).expand(self.members, -1, -1) if common else x.flatten(2)
            target = target if lead.loss.of_input else y
            values = torch.func.vmap(lead.loss.value)(output.to(x.dtype), target)
            loss.add_(values.to(loss.dtype), alpha=len(index))
            if not lead.loss.of_input:
                right.add_((output.argmax(-1) == y).sum(-1))
                own = output.gather(-1, y[..., None])
                among.add_(((~(output < own)).sum(-1) <= top).sum(-1))
        count, labelled = len(splits[0]), not lead.loss.of_input
        found = [
            named(name, (a / count, b / count if labelled else math.nan))
            for a, b in zip(loss.tolist(), right.tolist(), strict=True)
        ]
        if top and labelled:
            for one, share in zip(found, among.tolist(), strict=True):
                one[f"{name}_top{top}"] = share / count
        return found


def assemble(runs: Sequence[Run], machine: Machine) -> list[Parts]:
    """The parts of every run, over one copy of their data."""
    dataset = shared(data.load(runs[0].data, folder=machine.data_dir), usable(machine.device))
    return [build(run, machine, dataset) for run in runs]


def _one_split(splits: Sequence[data.Split]) -> bool:
    """Whether all of these are the same rows of the same images."""
    first = splits[0]
    return all(
        split is first
        or (
            isinstance(split, View)
            and isinstance(first, View)
            and split.source is first.source
            and torch.equal(split.index, first.index)
        )
        for split in splits
    )
