"""A rule's hold on its model: where the tensors are, what a survey showed, and the fixed feedback that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.contracts import Site
from equipoise.errors import InputError
from equipoise.functional.draws import draw
from equipoise.functional.losses import Loss
from equipoise.randomness import generator
from equipoise.rules.inspector import Needs
from equipoise.rules.links import Link
from equipoise.rules.report import Options, Step
from equipoise.rules.slots import Slots
from equipoise.rules.survey import Survey, survey
from equipoise.rules.tape import changed_rate

__all__ = ["Held"]


class Held(nn.Module):
    """A model held beside a module, unregistered: the module's own state dict is its fixed feedback alone.

    callbacks: functions of (x, y, step), called at the end of every ``backward``. drawn_at_look: the size of the
    feedback depends on the input, so it exists only once the model was seen. inverts: trains chains of invertible
    layers alone. of_the_batch: how names of noise begin that is one for the whole batch; all other has rows by sample.
    """

    Options: ClassVar[type[Options]] = Options
    transport: ClassVar[bool] = False
    sites: ClassVar[bool] = False
    drawn_at_look: ClassVar[bool] = False
    inverts: ClassVar[bool] = False
    of_the_batch: ClassVar[tuple[str, ...]] = ()
    model: nn.Module
    slots: Slots

    def __init__(self, model: nn.Module, *, loss: Loss, seed: int, options: Options) -> None:
        super().__init__()
        self.__dict__["model"] = model
        self.__dict__["slots"] = Slots(model)
        self.loss, self.seed, self.options = loss, seed, options
        self.survey: Survey | None = None
        self.fan_ins: dict[str, Tensor] = {}
        self.callbacks: list[Callable[[Tensor, Tensor, Step], None]] = []

    def prepare(self, found: Survey, x: Tensor) -> None:
        """Draw the feedback that the model, surveyed on ``x``, needs, and refuse what the rule cannot train."""

    def refuse_local_objectives(self, why: str) -> None:
        """``InputError`` with the layer's name and ``why``, for a module that has an objective of its own."""
        if self.slots.listeners:
            raise InputError(f"layer '{self.slots.listeners[0].name}' has a local objective, which {why}")

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

    def feedback(self) -> dict[str, Tensor]:
        """This rule's feedback by the name of what it stands for (a parameter or a site)."""
        own = {**self._buffers, **self._parameters}
        return {name.replace("/", "."): tensor for name, tensor in own.items() if tensor is not None}

    def feedback_parameters(self) -> list[nn.Parameter]:
        """Learned feedback, for an optimiser group of its own; empty for fixed feedback."""
        return list(self.parameters())

    def look(self, x: Tensor) -> Survey:
        """Survey the model on ``x``, draw feedback, and refuse what cannot be trained (``InputError``)."""
        if x.shape[0] == 0:
            raise InputError("the rule has to see a sample of the model's input first; this batch is empty")
        found = survey(self.slots, x, self._needs())
        self.prepare(found, x)
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

    def fan_in(self, name: str) -> int | Tensor:
        """How many values a unit of the weight ``name`` sums over; a tensor where a population has padded it."""
        return self.fan_ins.get(name, self.slots.parameters()[name].shape[1:].numel())

    def keep(self, name: str, shape: Sequence[int], *, law: str, fan_in: int, scale: float) -> None:
        """Draw the fixed feedback ``name`` as a buffer, unless a state dict brought it already."""
        buffer = name.replace(".", "/")
        if buffer in self._buffers:
            self._fits(name, tuple(self.get_buffer(buffer).shape), tuple(shape))
            return
        stream = generator(self.seed, "feedback", name)
        value = draw(shape, law=law, fan_in=fan_in, generator=stream) * scale
        like = self.like(name)
        self.register_buffer(buffer, value.to(like.device, like.dtype))

    def like(self, name: str = "") -> Tensor:
        """The parameter ``name``, else the first floating one: whose dtype and device feedback takes."""
        params = self.slots.parameters()
        return params[name] if name in params else next(p for p in params.values() if p.is_floating_point())

    def _same_rates(self, links: Sequence[Link]) -> None:
        """Refuse dropout layers whose rate is not that of the survey, and so of their masks."""
        rates = {} if self.survey is None else {info.number: info.rate for info in self.survey.dropouts}
        for link in links:
            for part in (*link.before, *link.after):
                now = float(getattr(part.module, "p", 0))
                if part.number >= 0 and part.module.training and rates.get(part.number, now) != now:
                    raise changed_rate(part.number, now, rates[part.number])

    def _surveyed(self, x: Tensor) -> Survey:
        if self.survey is None:
            if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
                raise InputError("this rule has not seen its model run yet; pass example=x to rules.make")
            self.look(x)
        assert self.survey is not None
        return self.survey

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Before the model was seen, feedback of any size is taken (``look`` checks it); later, of the right one."""
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if not key.startswith(prefix) or "." in name:
                continue
            if self.drawn_at_look and self.survey is None and name not in self._buffers:
                self.register_buffer(name, self.like().new_empty(value.shape))
            elif name in self._buffers:
                self._fits(name.replace("/", "."), tuple(value.shape), tuple(self.get_buffer(name).shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _fits(self, name: str, present: tuple[int, ...], needed: tuple[int, ...]) -> None:
        if present != needed:
            raise InputError(f"feedback '{name}' has the shape {present}; this model needs {needed}")
