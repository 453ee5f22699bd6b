"""What every rule is: an objective whose autograd gradient is the rule, or the gradients themselves, written by hand.

A rule names *roots*: tensors of the forward pass, each with the error that enters there. Backpropagation has one,
the loss. Direct feedback has the loss and every site, whose error is B e. Feedback alignment has the loss, and a
forward pass that carries its own backward weights. Autograd does the rest, so one class serves ``backward``,
``gradients``, ``vmap`` and full-graph compilation. A rule without a backward phase, and plain chains where autograd's
bookkeeping would be a good part of a step, are written out instead (``by_hand``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.debugging import debugging
from equipoise.errors import InputError
from equipoise.rules.held import Held
from equipoise.rules.report import Credit, Options, Step
from equipoise.rules.survey import entries
from equipoise.rules.sync import Part, accumulate, drawn, mean_over_ranks, world_size
from equipoise.rules.tape import Tape

__all__ = ["Credit", "Options", "Rule", "Step"]

Write = Callable[[str, Tensor], None]


class Rule(Held):
    """How a network assigns credit. Make one with ``rules.make``; its own state dict is its fixed feedback.

    The model is held unregistered: ``rule.model`` is yours, and stays out of ``rule.state_dict()``. Its tensors may
    change, its layers may not: replace those before you make the rule.
    ``copy.deepcopy((model, rule))`` keeps the two together. ``callbacks`` are functions of (x, y, step) that every
    ``backward`` calls at its end.

    forward_only: ``by_hand`` always answers, without a graph. immediate: each ``.grad`` is there as the pass goes on.
    """

    forward_only: ClassVar[bool] = False
    immediate: bool = False

    def credit(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> Credit:
        """Run the model under this rule and say where which error enters; by default, the loss at the output."""
        return self.answer(self.forward_pass(x, tensors, feedback=feedback, noise=noise), y)

    def by_hand(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        write: Write,
        *,
        fresh: bool,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, dict[str, Tensor]] | None:
        """Give each gradient to ``write(name, gradient)`` and return (loss, output); None: leave it to autograd.

        Local losses by module name may come third.
        ``fresh`` allows to overwrite what the pass itself made; off under ``torch.func``.
        """
        return None

    def maintain(self) -> None:
        """Upkeep after ``optimizer.step()``; nothing for rules with fixed feedback."""

    def backward(
        self, x: Tensor, y: Tensor, *, sync: bool | Part = True, generator: torch.Generator | None = None
    ) -> Step:
        """Add this rule's gradients of the batch (x, y) into ``.grad``, where ``loss.backward()`` stood.

        x (B, ...) and y (B,) class indices. Dropout masks come from ``generator``, which is on x's device (torch's
        global one if None); after a dropout rate has changed, call ``rule.look(x)``.
        With several ranks the gradients become those of the joint batch, weighted by sample counts; ``sync=False``
        leaves this rank's own, a ``Part`` says which rows of the joint batch's noise are (x, y)'s.
        Hidden parameters without credit keep ``.grad`` as it was.
        """
        together = bool(sync) and world_size() > 1
        self._check(x, y)
        if x.shape[0] == 0:
            if not together:
                raise InputError("the batch is empty: x has no rows")
            return self._told(x, y, self._empty(x))
        params, buffers = self.slots.parameters(), self.slots.buffers()
        noise = drawn(self, x, generator, sync)
        trained = {n: p for n, p in params.items() if p.requires_grad}
        if not (trained and torch.is_grad_enabled()):
            raise InputError("there is nothing to train: torch.no_grad is on, or all that this rule trains is frozen")
        step = self._written(x, y, {**params, **buffers}, trained, noise, together)
        if step is None:
            step = self._carried(x, y, {**params, **buffers}, list(trained.values()), noise, together)
        return self._told(x, y, step)

    def _told(self, x: Tensor, y: Tensor, step: Step) -> Step:
        """``step``, once every callback has heard of it."""
        for call in self.callbacks:
            call(x, y, step)
        return step

    def _written(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        trained: Mapping[str, nn.Parameter],
        noise: Mapping[str, Tensor],
        together: bool,
    ) -> Step | None:
        """The step by hand, if the rule knows how."""
        grads: dict[str, Tensor] = {}

        def collect(name: str, gradient: Tensor) -> None:
            if name in trained:
                grads[name] = grads[name] + gradient if name in grads else gradient

        def at_once(name: str, gradient: Tensor) -> None:
            if name in trained:
                accumulate([trained[name]], [gradient])

        now = self.immediate and not together
        with torch.no_grad():
            done = self.by_hand(x, y, tensors, self.feedback(), noise, at_once if now else collect, fresh=True)
        if done is None:
            return None
        given, params = [grads.get(n) for n in trained], list(trained.values())
        accumulate(params, mean_over_ranks(given, params, x.shape[0]) if together else given)
        return Step(done[0], done[1], dict(*done[2:]), {})

    def _carried(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        trained: Sequence[nn.Parameter],
        noise: Mapping[str, Tensor],
        together: bool,
    ) -> Step:
        """The step by autograd, from the rule's roots."""
        credit, local = self._run(x, y, tensors, self.feedback(), noise)
        roots = [(h, d) for h, d in credit.roots if h.requires_grad]
        if not roots:
            raise InputError("there is nothing to train: torch.no_grad is on, or all that this rule trains is frozen")
        ends, errors = [h for h, _ in roots], [d for _, d in roots]
        if together:
            grads = torch.autograd.grad(ends, trained, errors, allow_unused=True)
            accumulate(trained, mean_over_ranks(grads, trained, x.shape[0]))
        else:
            torch.autograd.backward(ends, errors)
        return self._step(credit, local)

    def gradients(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        y: Tensor,
        *,
        feedback: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], Step, dict[str, Tensor]]:
        """The pure form: gradients by parameter name, the step's report, and the model's new buffers.

        Reads no random state (but for what ``draw`` leaves to torch) and writes nothing, so ``torch.func.vmap`` (over
        ``params``, ``feedback``, ``noise``, ``state`` or data) and ``torch.compile(fullgraph=True)`` apply to it.
        What is not given is the model's or the rule's own; dropout needs ``noise`` from ``draw``. Parameters without
        credit get zeros.
        """
        found = self._surveyed(x)
        own = self.slots.parameters()
        unknown = [n for n in params if n not in own]
        if unknown:
            raise InputError(f"params names what the model has not: {', '.join(unknown)}")
        given = {} if noise is None else noise
        if len(found.dropouts) > len(given):
            raise InputError(f"the model has {len(found.dropouts)} dropout calls; pass noise=rule.draw(x, generator)")
        buffers = {**self.slots.buffers(), **(state or {})}
        fed = {**self.feedback(), **(feedback or {})}
        rest = {n: p.detach() for n, p in own.items() if n not in params}
        if self.forward_only:
            return self._forward_only({**rest, **params, **buffers}, list(params), x, y, fed, given, buffers)

        def objective(trained: dict[str, Tensor]) -> tuple[Tensor, tuple[Step, dict[str, Tensor]]]:
            tensors = {**rest, **trained, **{n: t.clone() for n, t in buffers.items()}}
            with self.slots.filled(tensors):
                credit, local = self._run(x, y, tensors, fed, given)
                after = self.slots.buffers()
            total = sum((h if d is None else (h * d).sum() for h, d in credit.roots), start=credit.loss.new_zeros(()))
            return total, (self._step(credit, local), {n: t.detach() for n, t in after.items()})

        grads, (step, after) = torch.func.grad(objective, has_aux=True)(dict(params))
        return grads, step, after

    def _forward_only(
        self,
        tensors: dict[str, Tensor],
        wanted: Sequence[str],
        x: Tensor,
        y: Tensor,
        fed: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        buffers: dict[str, Tensor],
    ) -> tuple[dict[str, Tensor], Step, dict[str, Tensor]]:
        grads = {n: torch.zeros_like(tensors[n]) for n in wanted}
        met: set[str] = set()

        def write(name: str, gradient: Tensor) -> None:
            if name in grads:
                grads[name] = grads[name] + gradient if name in met else gradient
                met.add(name)

        with torch.no_grad():
            done = self.by_hand(x, y, tensors, fed, noise, write, fresh=False)
        assert done is not None
        return grads, Step(done[0], done[1], {}, {}), buffers

    def reference(self) -> Rule:
        """Backpropagation on the same model with the same loss: what alignment compares with."""
        from equipoise.rules.backprop import Backprop

        options = Backprop.Options(local_weight=self.options.local_weight)
        rule = Backprop(self.model, loss=self.loss, seed=self.seed, options=options)
        rule.survey = self.survey
        return rule

    def answer(self, output: Tensor, y: Tensor, roots: Sequence[tuple[Tensor, Tensor | None]] = ()) -> Credit:
        """The loss of ``output`` as a root, and the others."""
        loss = self.loss.value(output, y)
        return Credit(loss, output, [(loss, None), *roots])

    def forward_pass(
        self,
        x: Tensor,
        tensors: Mapping[str, Tensor],
        *,
        feedback: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        cuts: Sequence[tuple[str, bool]] | None = None,
        heard: list[Tensor] | None = None,
    ) -> Tensor:
        """The model's output for ``x``, under a tape where there is something for it to do."""
        if not feedback and cuts is None and not noise:
            return self.slots.entrance(x)
        keys = entries(tensors, feedback or {}, self.inner)
        rates = {} if self.survey is None else {info.number: info.rate for info in self.survey.dropouts}
        with Tape(keys, cuts=cuts, heard=heard, noise=noise, rates=rates):
            return self.slots.entrance(x)

    def _run(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> tuple[Credit, dict[str, Tensor]]:
        """Credit, with the local objectives of the model's modules added as roots."""
        with self.slots.listening() if self.slots.listeners else nullcontext([]) as listeners:
            credit = self.credit(x, y, tensors, feedback, noise)
        local: dict[str, Tensor] = {}
        for listener in listeners:
            values = [*listener.losses, *(listener.inner.local_loss(caught.detach()) for caught in listener.heard)]
            if values:
                local[listener.name] = torch.stack(values).sum() if len(values) > 1 else values[0]
            listener.heard.clear()
            listener.losses.clear()
        weighted = [(value * self.options.local_weight, None) for value in local.values()]
        return credit._replace(roots=[*credit.roots, *weighted]), local

    def _step(self, credit: Credit, local: Mapping[str, Tensor]) -> Step:
        return Step(credit.loss.detach(), credit.output.detach(), {n: t.detach() for n, t in local.items()}, {})

    def _check(self, x: Tensor, y: Tensor) -> None:
        if x.shape[:1] != y.shape[:1]:
            raise InputError(f"x has {tuple(x.shape)} and y {tuple(y.shape)}: both need the same batch on axis 0")
        if debugging():
            if x.is_floating_point() and not bool(x.isfinite().all()):
                raise InputError("x holds values that are not finite")
            classes = self._surveyed(x).classes
            if not y.is_floating_point() and bool(((y < 0) | (y >= classes)).any()):
                raise InputError(f"labels run from {int(y.min())} to {int(y.max())}; the model has {classes} outputs")

    def _empty(self, x: Tensor) -> Step:
        """An empty rank's part: it joins the all-reduce with nothing."""
        if self.survey is None:
            raise InputError("a rank has an empty batch before the rule has seen its model; pass example=x to make")
        trained = [p for p in self.slots.parameters().values() if p.requires_grad]
        accumulate(trained, mean_over_ranks([None] * len(trained), trained, 0))
        output = x.new_zeros(0, self.survey.classes)
        return Step(output.new_zeros(()), output, {}, {})
