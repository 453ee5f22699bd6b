"""Rules whose errors pass back through inverses: how each layer's inverse is had, and how near it is.

A pass never decides anything: how often to refine, or which inverse is held, was decided on the host, from a residual
that was measured on a few random vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.inverse import condition, nearer, refine, residual, solve
from equipoise.functional.moments import wide
from equipoise.randomness import generator
from equipoise.rules.alignment import Transported
from equipoise.rules.base import Step
from equipoise.rules.square import Square, invertible_chain, squares
from equipoise.rules.sync import Part, few, placed, sum_over_ranks, world_size
from equipoise.rules.targets import composed
from equipoise.rules.upkeep import UpkeepOptions, keep_, penalties, sweep_

__all__ = ["InverseOptions", "Inverted"]

_PROBES = 8
# A layer is looked at once in so many steps at most, and so often that it drifts by this share of the tolerance.
_LONGEST, _SHARE = 16, 0.7
_DECIDED = ("counts", "turns", "due", "cursors")


@dataclass(frozen=True)
class InverseOptions(UpkeepOptions):
    """Options of rules that invert their layers.

    inverse: "solve" factorises W at every step; "refine" starts from W^T and improves it by products (conjugate
    gradients), as often as a residual says; "track" holds the inverse and renews it when its residual has grown beyond
    ``tolerance``; "transpose" takes W^T for it, which is backpropagation. tolerance: of the residual
    ||v - W X v|| / ||v||; max_refinements: beyond them a layer is solved, and a warning logged.
    """

    inverse: Literal["solve", "refine", "track", "transpose"] = "track"
    tolerance: float = 2.5e-3
    max_refinements: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < 1 or self.max_refinements < 0:
            raise InputError(
                f"tolerance={self.tolerance} is between 0 and 1, and max_refinements={self.max_refinements} not below 0"
            )


class Inverted(Transported):
    """A rule whose errors pass back through the inverses of square layers, kept near to orthogonal ones."""

    inverts = True
    title: ClassVar[str] = ""
    options: Any

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        params = self.slots.parameters()
        self.links = invertible_chain(self.title, model, self.slots)
        self.units = [composed(link.after) for link in self.links]
        self.squares = squares(self.title, self.links, params)
        self.by_number = {square.number: square for square in self.squares}
        # Refinements by weight; -1: solve.
        self.counts = dict.fromkeys((s.name for s in self.squares), 0)
        self.steps = 0
        # By weight: steps from one look to the next, the step of the next, and where its upkeep goes on.
        self.turns = {s.name: 1 if self.backend == "track" else 4 for s in self.squares}
        self.due = {s.name: k % self.turns[s.name] for k, s in enumerate(self.squares)}
        self.cursors = dict.fromkeys(self.turns, 0)
        # Errors of the last batch, a few rows by weight: the directions in which an inverse has to be good.
        self.errors: dict[str, Tensor] = {}
        self.part: Part | None = None
        self.measured: dict[str, float] = {}
        if self.backend == "track":
            for square in self.squares:
                matrix = square.matrix(params[square.name].detach())
                self.register_buffer(square.name.replace(".", "/"), self._solved(square, matrix))
        self._check_layers(self.squares)

    @property
    def backend(self) -> str:
        """How inverses are had: a value of the option ``inverse``."""
        return str(getattr(self.options, "inverse", "solve"))

    def without_local_objectives(self) -> None:
        """Refuse modules with an objective of their own, for which a graph would be needed."""
        self.refuse_local_objectives(
            f"{self.title} does not train where it passes targets down; use rule 'gait' with mode='difference', or 'fa'"
        )

    # How an error gets down.

    def carried(self, square: Square, g: Tensor, h: Tensor, tensors: Mapping[str, Tensor], held: Any) -> Tensor:
        """A^-1 g at the input ``h`` of a layer, from the error ``g`` at its used units."""
        matrix = square.matrix(tensors[square.name]).to(g.dtype)
        kind, count = self.backend, self.counts[square.name]
        if square.link.dense and kind in ("solve", "refine") and g[..., 0].numel() < square.used:
            whole = F.pad(g, (0, square.units - square.used)).reshape(-1, square.units)
            found = solve(matrix, whole) if kind == "solve" or count < 0 else refine(matrix, whole, count)
            return found.reshape(h.shape)
        return square.down(self.columns(square, matrix, held).to(g.dtype), g, h)

    def columns(self, square: Square, matrix: Tensor, held: Mapping[str, Tensor]) -> Tensor:
        """The inverse's columns for the used units, as rows (used, n)."""
        kind, count = self.backend, self.counts[square.name]
        if kind == "track":
            return torch.as_tensor(held[square.name])
        if kind == "transpose" or (kind == "refine" and count == 0):
            return matrix[: square.used]
        if kind == "solve" or count < 0:
            return self._solved(square, matrix)
        units = torch.eye(square.used, square.units, dtype=matrix.dtype, device=matrix.device)
        return refine(matrix, units, count)

    def _solved(self, square: Square, matrix: Tensor) -> Tensor:
        return solve(matrix, torch.eye(square.used, square.units, dtype=matrix.dtype, device=matrix.device))

    def transported(
        self, tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """W^-T in the place of W, for the units that are used: the way through autograd."""
        found = {}
        for square in self.squares:
            weight = tensors[square.name].detach()
            if square.overlap != "subtract":
                raise InputError(
                    f"layer '{square.link.name}' divides overlapping patches, and {self.title} does that only where "
                    "it runs the layers itself: without hooks, autocast and local objectives"
                )
            columns = self.columns(square, square.matrix(weight), feedback)
            found[square.name] = square.feedback(columns.to(weight.dtype), weight)
        return found

    def note(self, square: Square, g: Tensor) -> None:
        """Keep a few of the errors ``g`` at a layer's used units."""
        rows = g.movedim(1, -1).reshape(-1, square.used)
        self.errors[square.name] = few(rows, g.shape[0], _PROBES, self.part)

    # What is decided on the host.

    def backward(
        self, x: Tensor, y: Tensor, *, sync: bool | Part = True, generator: torch.Generator | None = None
    ) -> Step:
        """As every rule's; weights that changed without ``maintain`` have their inverses measured first.

        With several ranks the errors that inverses are measured with are those of the joint batch.
        """
        if self._stamp() != self.stamp:
            self._check_layers(self.squares)
        self.part = None
        if not sync or world_size() == 1:
            return super().backward(x, y, sync=sync, generator=generator)
        self.part, self.errors = sync if isinstance(sync, Part) else placed(x), {}
        step = super().backward(x, y, sync=sync, generator=generator)
        params = self.slots.parameters()
        own = [self.errors.get(s.name, params[s.name].new_zeros(_PROBES, s.used)).detach() for s in self.squares]
        self.errors = dict(zip(self.turns, sum_over_ranks(own), strict=True))
        return step

    def _told(self, x: Tensor, y: Tensor, step: Step) -> Step:
        """The callbacks see the task's gradients; the penalty comes on top."""
        told = super()._told(x, y, step._replace(diagnostics={n: torch.tensor(v) for n, v in self.measured.items()}))
        params = self.slots.parameters()
        trained = {s.name: s.matrix(params[s.name].detach()) for s in self.squares if params[s.name].requires_grad}
        for name, gradient in penalties(self.options, trained).items():
            own, shaped = params[name], gradient.reshape(params[name].shape)
            own.grad = shaped if own.grad is None else own.grad.add_(shaped)
        return told

    @torch.no_grad()
    def maintain(self) -> None:
        """After ``optimizer.step()``: orthogonality, then the inverses of the layers whose turn it is.

        A layer's turn comes the sooner, the further its inverse had drifted at the last.
        """
        params, all_of_them = self.slots.parameters(), self.options.falls_due(self.steps)
        chosen = tuple(s for s in self.squares if all_of_them or self.due[s.name] <= self.steps)
        for square in chosen:
            matrix, name = square.matrix(params[square.name]), square.name
            if self.backend == "track":
                self._adapt(square, matrix)
            self.due[name] = self.steps + self.turns[name]
            if not params[name].requires_grad:
                continue
            if all_of_them:
                keep_(self.options, matrix)
            elif self.options.upkeep == "probe":
                count = self.options.probes * self.turns[name]
                self.cursors[name] = sweep_(self.options, matrix, self.cursors[name], count)
        self.steps += 1
        self._check_layers(chosen)

    def _adapt(self, square: Square, matrix: Tensor) -> None:
        """Look the sooner at a layer the further its held inverse has drifted since the last time."""
        held, name = self.get_buffer(square.name.replace(".", "/")), square.name
        drift = residual(wide(matrix), wide(held), self._probes(square, wide(matrix)))
        fit = _SHARE * self._tolerance(matrix) / max(drift, 1e-30) if drift < torch.inf else 0.0
        self.turns[name] = max(1, min(_LONGEST, int(self.turns[name] * min(fit, 2.0))))

    def _tolerance(self, matrix: Tensor) -> float:
        return max(getattr(self.options, "tolerance", 1.0), 8 * torch.finfo(matrix.dtype).eps)

    def _probes(self, square: Square, matrix: Tensor) -> Tensor:
        """Vectors (P, used) on which an inverse is measured: the last batch's errors, random ones before any."""
        source = generator(self.seed, "probes", square.name)
        v = torch.randn(_PROBES, square.used, generator=source).to(matrix)
        errors = self.errors.get(square.name)
        return v if errors is None or not bool(errors.any()) else errors.to(v)

    @torch.no_grad()
    def _check_layers(self, chosen: tuple[Square, ...]) -> None:
        """Measure these layers' inverses, and put right what has drifted.

        ||A A^T - I||_F is estimated too, from how far it moves random vectors.
        """
        params = self.slots.parameters()
        for square in chosen:
            kept = params[square.name].detach()
            matrix = wide(square.matrix(kept))
            tolerance, v = self._tolerance(kept), self._probes(square, matrix)
            source = generator(self.seed, "orthogonality", square.name)
            whole = torch.randn(_PROBES, square.units, generator=source).to(matrix)
            self.measured[f"orthogonality/{square.link.name}"] = residual(matrix, matrix, whole) * square.units**0.5
            if self.backend == "refine":
                self.counts[square.name] = self._refinements(square, matrix, v, tolerance)
            elif self.backend == "track":
                self._renew(square, matrix, v, tolerance)
        self.stamp = self._stamp()

    def _refinements(self, square: Square, matrix: Tensor, v: Tensor, tolerance: float) -> int:
        """The fewest refinements of A^T that reach ``tolerance``; -1, and a warning, where none do."""
        whole = F.pad(v, (0, square.units - square.used))
        left = torch.inf
        for count in range(self.options.max_refinements + 1):
            left = float((whole - refine(matrix, whole, count) @ matrix.T).norm() / whole.norm())
            if left <= tolerance:
                self.measured[f"residual/{square.link.name}"] = left
                return count
        self._warn(square, matrix, f"{self.options.max_refinements} refinements leave a residual of {left:.2g}")
        return -1

    def _renew(self, square: Square, matrix: Tensor, v: Tensor, tolerance: float) -> None:
        """Bring the held inverse back within ``tolerance``."""
        buffer = self.get_buffer(square.name.replace(".", "/"))
        columns = wide(buffer)
        left = residual(matrix, columns, v)
        before, tried = left, 0
        while not left <= tolerance and tried < self.options.max_refinements and left < 1:
            columns, tried = nearer(matrix, columns), tried + 1
            left = residual(matrix, columns, v)
        if not left <= tolerance:
            columns = self._solved(square, matrix)
            left = residual(matrix, columns, v)
            if not left <= tolerance:
                self._warn(square, matrix, f"its solved inverse leaves a residual of {left:.2g}")
        if left != before:
            buffer.copy_(columns)
        self.measured[f"residual/{square.link.name}"] = left

    def _warn(self, square: Square, matrix: Tensor, what: str) -> None:
        logging.getLogger("equipoise").warning(
            "%s: layer '%s': %s (condition number %.3g), so it is solved; keep the weights orthogonal by upkeep=, or "
            "lower the learning rate",
            *(self.title, square.link.name, what, condition(matrix)),
        )

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        """What changes whenever a square layer's weight does."""
        params = self.slots.parameters()
        return tuple((id(params[s.name]), params[s.name]._version) for s in self.squares)

    def get_extra_state(self) -> dict[str, Any]:
        """What was decided on the host, so that a resumed run takes the same steps."""
        return {"steps": self.steps, **{name: dict(getattr(self, name)) for name in _DECIDED}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up where ``get_extra_state`` left off; the model has its weights already."""
        self.steps = int(state["steps"])
        for name in _DECIDED:
            setattr(self, name, dict(state[name]))
        self.stamp = self._stamp()
