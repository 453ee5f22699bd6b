"""What turns the members' gradients into new weights: clipping, penalties, rates and optimisers, by member."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.contracts import Constraint
from equipoise.nn import constraints_of
from equipoise.population import optimisers
from equipoise.population.core import Tensors
from equipoise.population.optimisers import along
from equipoise.train import penalties, schedules
from equipoise.train.parts import Parts

__all__ = ["Updates"]

State = dict[str, dict[str, Tensor]]


class Updates:
    """The optimisers of all members as one: ``state`` by parameter and by what the optimiser keeps, each (M, ...).

    names: the parameters that the rule gives credit. ``count`` is the number of updates done, a scalar on the device.
    """

    def __init__(self, parts: Sequence[Parts], names: Sequence[str], tensors: Tensors) -> None:
        lead, trained = parts[0], tensors.trained
        chosen = optimisers.kind(lead.run.optimizer, lead.run.optimizer_options)
        assert not isinstance(chosen, str)
        self.parts, self.kind, self.device = parts, chosen, lead.device
        self.dtype = next(iter(trained.values())).dtype
        found = [optimisers.numbers(chosen, one.run.optimizer_options) for one in parts]
        self.numbers = {key: self.row([one[key] for one in found]) for key in chosen.numbers}
        held = [one.rule.slots.parameters() for one in parts]
        self.owned = [{n: one[n] for n in names} for one in held]
        self._groups = []
        for one, mine in zip(parts, self.owned, strict=True):
            owner = {id(p): group for group in one.optimizer.param_groups for p in group["params"]}
            self._groups.append({n: owner[id(p)] for n, p in mine.items()})
        self.rates = {n: self.row([0.0] * len(parts)) for n in names}
        self._shown: tuple[float, ...] = ()
        self._stepwise = any(isinstance(one.scheduler, schedules.WarmupCosine) for one in parts)
        self.state: State = {n: {key: torch.zeros_like(trained[n]) for key in chosen.kept} for n in names}
        powers = [penalties.strengths(one.run.decay) for one in parts]
        known = sorted({p for one in powers for p in one})
        self.powers = {p: self.row([one.get(p, 0.0) for one in powers]) for p in known}
        norms = [one.run.clip_norm for one in parts]
        self.clip = None if norms == [None] * len(norms) else self.row([math.inf if c is None else c for c in norms])
        constraints = constraints_of(lead.model)
        self.constraints: dict[str, Constraint] = {n: c for n, c in constraints.items() if n in self.state}
        self.count = torch.zeros((), dtype=torch.float32 if self.device.type == "mps" else torch.float64)
        self.count = self.count.to(self.device)

    def row(self, values: Sequence[float]) -> Tensor:
        """``values``, one a member, as a tensor (M,)."""
        return torch.tensor(list(values), dtype=self.dtype, device=self.device)

    def move(self, epoch: int) -> None:
        """Bring the rates to where the members' schedules are in ``epoch`` (from 0)."""
        for one in self.parts:
            while one.scheduler is not None and one.scheduler.last_epoch < epoch and not _stepped(one):
                schedules.step_scheduler(one.scheduler, epoch=True)
        now = tuple(group["lr"] for one in self.parts for group in one.optimizer.param_groups)
        if now != self._shown:
            self._shown = now
            for name, rate in self.rates.items():
                rate.copy_(self.row([groups[name]["lr"] for groups in self._groups]))

    def moved(self) -> None:
        """After an update: schedules that count steps go on."""
        for one in self.parts if self._stepwise else ():
            schedules.step_scheduler(one.scheduler, epoch=False)

    def apply_(self, tensors: Tensors, grads: Mapping[str, Tensor], alive: Tensor) -> None:
        """One update of the trained ``tensors`` in place, of the members that are ``alive`` (M,); padding stays 0."""
        real = {n: _real(grads[n], tensors.masks.get(n)) for n in self.state}
        for name, g in self._penalised(tensors.trained, self._clipped(real)).items():
            w, kept = tensors.trained[name], self.state[name]
            numbers = {key: along(value, g) for key, value in self.numbers.items()}
            new, after = self.kind.update(w, g, kept, numbers, along(self.rates[name], g), self.count)
            if name in self.constraints:
                new = torch.func.vmap(self.constraints[name].project)(new)
            w.copy_(torch.where(tensors.active(name, w, alive), new, w))
            for key, value in after.items():
                kept[key].copy_(_real(value, tensors.masks.get(name)))
        self.count.add_(1)

    def _clipped(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.clip is None:
            return grads
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
        factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        return {n: g * along(factor, g) for n, g in grads.items()}

    def _penalised(self, trained: Mapping[str, Tensor], grads: dict[str, Tensor]) -> dict[str, Tensor]:
        for p, strengths in self.powers.items():
            grads = {n: g + along(strengths, g) * penalties.slope(trained[n], p) for n, g in grads.items()}
        return grads

    def absorb(self, done: int, tensors: Tensors) -> None:
        """Take up what the members' own optimisers keep after ``done`` updates."""
        for name, kept in self.state.items():
            for key, stack in kept.items():
                for member, one in enumerate(self.parts):
                    found = one.optimizer.state.get(self.owned[member][name], {}).get(key)
                    place = tensors.places.get(name)
                    stack[member] = 0 if found is None else found if place is None else place.pad(found, member)
        self.count.fill_(done)

    def release(self, member: int, done: int, tensors: Tensors) -> None:
        """Give one member's own optimiser what it would keep after ``done`` updates."""
        for name, kept in self.state.items() if done else ():
            found = {key: tensors.own(name, stack[member].clone(), member) for key, stack in kept.items()}
            if "momentum_buffer" not in found:
                found["step"] = torch.tensor(float(done))
            elif not float(self.numbers["momentum"][member]):
                found = {}
            self.parts[member].optimizer.state[self.owned[member][name]] = found


def _real(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else torch.where(mask, value, 0)


def _stepped(one: Parts) -> bool:
    return isinstance(one.scheduler, schedules.WarmupCosine)
