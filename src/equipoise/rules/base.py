"""What every rule is: an objective whose autograd gradient is the rule.

A rule names *roots*: tensors of the forward pass, each with the error that enters there. Backpropagation has one,
the loss. Direct feedback has the loss and every site, whose error is B e. Feedback alignment has the loss, and a
forward pass that carries its own backward weights. Autograd does the rest, so one class serves ``backward``,
``gradients``, ``vmap`` and full-graph compilation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.contracts import Site
from equipoise.debugging import debugging
from equipoise.errors import InputError
from equipoise.functional.draws import draw
from equipoise.functional.losses import Loss
from equipoise.randomness import generator
from equipoise.rules.inspector import Needs
from equipoise.rules.report import Credit, Options, Step
from equipoise.rules.slots import Slots
from equipoise.rules.survey import Survey, entries, survey
from equipoise.rules.sync import accumulate, mean_over_ranks, world_size
from equipoise.rules.tape import Tape

__all__ = ["Credit", "Options", "Rule", "Step"]


class Rule(nn.Module):
    """How a network assigns credit. Make one with ``rules.make``; its own state dict is its fixed feedback.

    The model is held unregistered: ``rule.model`` is yours, and stays out of ``rule.state_dict()``. Its tensors may
    change, its layers may not: replace those before you make the rule.
    ``copy.deepcopy((model, rule))`` keeps the two together.
    """

    Options: ClassVar[type[Options]] = Options
    transport: ClassVar[bool] = False
    sites: ClassVar[bool] = False
    model: nn.Module
    slots: Slots

    def __init__(self, model: nn.Module, *, loss: Loss, seed: int, options: Options) -> None:
        super().__init__()
        self.__dict__["model"] = model
        self.__dict__["slots"] = Slots(model)
        self.loss, self.seed, self.options = loss, seed, options
        self.survey: Survey | None = None

    # What a rule defines ---------------------------------------------------------------------------------------

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

    def prepare(self, found: Survey) -> None:
        """Draw the feedback that the surveyed model needs, and refuse what the rule cannot train."""

    def maintain(self) -> None:
        """Upkeep after ``optimizer.step()``; nothing for rules with fixed feedback."""

    # What a user calls -----------------------------------------------------------------------------------------

    def backward(self, x: Tensor, y: Tensor, *, sync: bool = True, generator: torch.Generator | None = None) -> Step:
        """Add this rule's gradients of the batch (x, y) into ``.grad``, where ``loss.backward()`` stood.

        x (B, ...) and y (B,) class indices. Dropout masks come from ``generator``, which is on x's device (torch's
        global one if None); after a dropout rate has changed, call ``rule.look(x)``.
        With several ranks the gradients become those of the joint batch, weighted by sample counts; ``sync=False``
        leaves this rank's own. Hidden parameters that the rule gives no credit keep ``.grad`` as it was.
        """
        together = sync and world_size() > 1
        self._check(x, y)
        if x.shape[0] == 0:
            if not together:
                raise InputError("the batch is empty: x has no rows")
            return self._empty(x)
        params, buffers = self.slots.parameters(), self.slots.buffers()
        noise = self.draw(x, generator)
        credit, local = self._run(x, y, {**params, **buffers}, self.feedback(), noise)
        roots = [(h, d) for h, d in credit.roots if h.requires_grad]
        if not roots:
            raise InputError("there is nothing to train: torch.no_grad is on, or all that this rule trains is frozen")
        tensors, errors = [h for h, _ in roots], [d for _, d in roots]
        if together:
            trained = [p for p in params.values() if p.requires_grad]
            grads = torch.autograd.grad(tensors, trained, errors, allow_unused=True)
            accumulate(trained, mean_over_ranks(grads, trained, x.shape[0]))
        else:
            torch.autograd.backward(tensors, errors)
        return self._step(credit, local)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The noise of one batch shaped like ``x``: a 0/1 mask for each dropout call of the model.

        ``F.dropout`` and its channel-wise kin, by whatever module. Left to torch's global state: other noise, and a
        dropout whose input does not have the batch on its first axis.
        """
        found = self._surveyed(x)
        return {
            f"dropout{info.number}": (
                torch.rand(info.rows * x.shape[0], *info.shape, generator=generator, device=x.device) >= info.rate
            ).to(torch.uint8)
            for info in found.dropouts
        }

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

        def objective(trained: dict[str, Tensor]) -> tuple[Tensor, tuple[Step, dict[str, Tensor]]]:
            tensors = {**rest, **trained, **{n: t.clone() for n, t in buffers.items()}}
            with self.slots.filled(tensors):
                credit, local = self._run(x, y, tensors, fed, given)
                after = self.slots.buffers()
            total = sum((h if d is None else (h * d).sum() for h, d in credit.roots), start=credit.loss.new_zeros(()))
            return total, (self._step(credit, local), {n: t.detach() for n, t in after.items()})

        grads, (step, after) = torch.func.grad(objective, has_aux=True)(dict(params))
        return grads, step, after

    def feedback(self) -> dict[str, Tensor]:
        """This rule's feedback by the name of what it stands for (a parameter or a site)."""
        own = {**self._buffers, **self._parameters}
        return {name.replace("/", "."): tensor for name, tensor in own.items() if tensor is not None}

    def feedback_parameters(self) -> list[nn.Parameter]:
        """Learned feedback, for an optimiser group of its own; empty for fixed feedback."""
        return list(self.parameters())

    def reference(self) -> Rule:
        """Backpropagation on the same model with the same loss: what alignment compares with."""
        from equipoise.rules.backprop import Backprop

        options = Backprop.Options(local_weight=self.options.local_weight)
        rule = Backprop(self.model, loss=self.loss, seed=self.seed, options=options)
        rule.survey = self.survey
        return rule

    # What rules share ------------------------------------------------------------------------------------------

    def look(self, x: Tensor) -> Survey:
        """Survey the model on ``x``, draw feedback, and refuse what cannot be trained (``InputError``)."""
        if x.shape[0] == 0:
            raise InputError("the rule has to see a sample of the model's input first; this batch is empty")
        found = survey(self.slots, x, self._needs())
        self.prepare(found)
        self.survey = found
        return found

    def _needs(self) -> Needs:
        if not (self.transport or self.sites):
            return Needs()
        exact = self.slots.exact()
        left = exact | self.inner
        matrices = {n for n, p in self.slots.parameters().items() if p.ndim >= 2 and n not in left}
        return Needs(self.transport, self.sites, frozenset(matrices), self.inner, exact)

    def fed(self) -> list[str]:
        """Names of the parameters that have feedback of their own."""
        return []

    @cached_property
    def inner(self) -> frozenset[str]:
        """Names of the parameters inside circuits (contract ``Site``), which the rule leaves exact."""
        return frozenset(
            name
            for module, kind, attribute, name in self.slots.places
            if kind == "_parameters" and isinstance(module, Site) and attribute not in module.projections
        )

    def keep(self, name: str, shape: Sequence[int], *, law: str, fan_in: int, scale: float) -> None:
        """Draw the fixed feedback ``name`` as a buffer, unless a state dict brought it already."""
        buffer = name.replace(".", "/")
        if buffer in self._buffers:
            present = tuple(self.get_buffer(buffer).shape)
            if present != tuple(shape):
                raise InputError(f"feedback '{name}' was loaded with shape {present}; this model needs {tuple(shape)}")
            return
        stream = generator(self.seed, "feedback", name)
        value = draw(shape, law=law, fan_in=fan_in, generator=stream) * scale
        like = self.like(name)
        self.register_buffer(buffer, value.to(like.device, like.dtype))

    def like(self, name: str = "") -> Tensor:
        """The parameter ``name``, else the first floating one: whose dtype and device feedback takes."""
        params = self.slots.parameters()
        return params[name] if name in params else next(p for p in params.values() if p.is_floating_point())

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
            for caught in listener.heard:
                value = listener.inner.local_loss(caught.detach())
                local[listener.name] = local.get(listener.name, 0) + value
            listener.heard.clear()
        weighted = [(value * self.options.local_weight, None) for value in local.values()]
        return credit._replace(roots=[*credit.roots, *weighted]), local

    def _step(self, credit: Credit, local: Mapping[str, Tensor]) -> Step:
        return Step(credit.loss.detach(), credit.output.detach(), {n: t.detach() for n, t in local.items()}, {})

    def _surveyed(self, x: Tensor) -> Survey:
        if self.survey is None:
            if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
                raise InputError("this rule has not seen its model run yet; pass example=x to rules.make")
            self.look(x)
        assert self.survey is not None
        return self.survey

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
