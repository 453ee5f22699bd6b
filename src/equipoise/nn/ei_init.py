"""E-I Init: the weights of every E-I layer from one look at data, layer by layer, in the order of the signal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.ei_scales import ei_scales
from equipoise.nn.spiking import LIF
from equipoise.randomness import generator

__all__ = ["EIInitReport", "LayerInit", "ei_init_"]


@runtime_checkable
class Initialised(Protocol):
    """A layer that starts from the moments of its input: ``initialise_`` sets its weights and ``initialised``."""

    initialised: Tensor

    def initialise_(self, first: float, second: float, within: float, stream: torch.Generator, h: Tensor) -> float:
        """Set the weights; the scale of the excitatory ones."""
        ...


@dataclass(frozen=True)
class LayerInit:
    """What a layer saw and got: mean and mean square of its input, its variance over samples and time; beta, gamma."""

    name: str
    first: float
    second: float
    within: float
    beta: float
    gamma: float


@dataclass(frozen=True)
class EIInitReport:
    """Every layer that was set, those that had been before, and the firing rates (of the last batch)."""

    layers: tuple[LayerInit, ...]
    kept: tuple[str, ...]
    rates: dict[str, float]

    def __str__(self) -> str:
        lines = [f"{'layer':24} {'mean in':>9} {'variance':>9} {'beta':>9} {'g_I':>9}"]
        lines += [
            f"{one.name:24} {one.first:9.4f} {one.within:9.4f} {one.beta:9.5f} {one.gamma:9.4f}" for one in self.layers
        ]
        lines += [f"{name:24} kept as it was" for name in self.kept]
        lines += [f"{name:24} spikes in {100 * rate:.1f} % of its steps" for name, rate in self.rates.items()]
        return "\n".join(lines)


class _Sums:
    """Running sums of a layer's input over its first axis (samples and time), in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.centre: Tensor | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Count the rows of ``x``; ``InputError`` if they are no rates."""
        rows = x.detach().double()
        if not bool(rows.isfinite().all()):
            raise InputError(f"'{name}': its input holds values that are not finite")
        if bool((rows < 0).any()):
            raise InputError(
                f"'{name}': inputs of an E-I layer are rates, and the least of this batch is {float(rows.min()):.3g}; "
                "keep pixels in [0, 1], or put nn.OnOff() first"
            )
        if self.centre is None:
            self.centre = rows.mean(0)
        elif self.centre.shape != rows.shape[1:]:
            raise InputError(
                f"'{name}': the batches differ in shape behind the first axis, {tuple(self.centre.shape)} and "
                f"{tuple(rows.shape[1:])}"
            )
        away = rows - self.centre
        self.sum, self.square = self.sum + away.sum(0), self.square + away.square().sum(0)
        self.rows += rows.shape[0]

    def moments(self, name: str) -> tuple[float, float, float]:
        """m1, m2, V; ``InputError`` for an input that is silent, constant or too short to tell."""
        if self.centre is None or self.rows < 2:
            raise InputError(
                f"'{name}': {self.rows} rows are too few to tell its input's variance; pass a larger batch"
            )
        assert isinstance(self.sum, Tensor)
        assert isinstance(self.square, Tensor)
        shift = self.sum / self.rows
        spread = self.square - self.rows * shift.square()
        first = float((self.centre + shift).mean())
        second = float(((self.centre + shift).square() + spread / self.rows).mean())
        within = float((spread / (self.rows - 1)).mean())
        if not first > 0:
            raise InputError(
                f"'{name}' gets no input at all in this batch: the cells below are silent. Pass another batch, or "
                "lower their threshold"
            )
        if not within > 1e-12 * second:
            raise InputError(
                f"'{name}' gets the same input ({first:.3g} on average) in every sample and time step, so there is no "
                "variance to keep; pass a batch of different samples"
            )
        return first, second, within


class _Enough(Exception):
    """Ends a pass at the layer whose moments were wanted."""


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every layer to be set, by name; what is inside one is its own affair."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, Initialised) and not any(name.startswith(f"{o}.") or not o for o in found):
            found[name] = module  # type: ignore[assignment]
    return found


@contextmanager
def _hooked(hooks: Iterable[Any]) -> Iterator[None]:
    handles = list(hooks)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _called(name: str, module: nn.Module) -> str:
    return name or type(module).__name__


class _Pass:
    """Runs the batches through the model, time and again, until every layer that is met has been set."""

    def __init__(self, model: nn.Module, batches: list[Tensor], seed: int, again: bool) -> None:
        self.model, self.batches, self.seed = model, batches, seed
        self.layers = _layers(model)
        if not self.layers:
            raise InputError(f"{type(model).__name__} has no E-I layer (EILinear, EIConv2d) to initialise")
        self.kept = tuple(
            _called(n, m)
            for n, m in self.layers.items()
            if bool(m.initialised) and not again  # type: ignore[arg-type]
        )
        self.waiting = {n: m for n, m in self.layers.items() if _called(n, m) not in self.kept}
        self.done: list[LayerInit] = []
        self.rates: dict[str, float] = {}

    def run(self) -> EIInitReport:
        """Set the layers."""
        while self.waiting:
            before = len(self.waiting)
            self._once()
            if len(self.waiting) == before:
                raise InputError(
                    f"the model did not use '{next(iter(self.waiting))}' for this batch, so it has no input"
                )
        with _hooked(m.register_forward_hook(self._count(n)) for n, m in self.model.named_modules() if _spikes(m)):
            self.model(self.batches[-1])
        return EIInitReport(tuple(self.done), self.kept, self.rates)

    def _count(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.rates[_called(name, module)] = float(output.mean())

        return hook

    def _once(self) -> None:
        """One pass over all batches: with one batch it sets all layers, with several the next one."""
        sums, target = _Sums(), ""
        last = False

        def meet(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                nonlocal sums, target
                if name not in self.waiting or (target and target != name):
                    return
                sums.add(_called(name, module), args[0])
                if not last:
                    target = name
                    raise _Enough
                self._set(name, module, sums, args[0])
                sums, target = _Sums(), ""
                if len(self.batches) > 1:
                    raise _Enough

            return hook

        with _hooked(m.register_forward_pre_hook(meet(n)) for n, m in self.waiting.items()):
            for batch in self.batches:
                last = batch is self.batches[-1]
                try:
                    self.model(batch)
                except _Enough:
                    continue

    def _set(self, name: str, module: Any, sums: _Sums, h: Tensor) -> None:
        called = _called(name, module)
        first, second, within = sums.moments(called)
        fan_in = getattr(module, "layer", module).fan_in
        try:
            beta = module.initialise_(first, second, within, generator(self.seed, "ei_init", name), h)
        except InputError as error:
            raise InputError(f"'{called}': {error}") from None
        gamma = ei_scales(first, second, within, fan_in)[1]
        self.done.append(LayerInit(called, first, second, within, beta, gamma))
        del self.waiting[name]


def _spikes(module: nn.Module) -> bool:
    return isinstance(module, LIF) or hasattr(module, "neuron")


@torch.no_grad()
def ei_init_(model: nn.Module, batch: Tensor | Iterable[Tensor], *, seed: int = 0, again: bool = False) -> EIInitReport:
    """Set every E-I layer of ``model`` from data, in place, each from what reaches it once those below are set.

        beta = sqrt(V / (d (m2 + V))),  gamma = sqrt(m2 + V) / (m1 sqrt(d))    (``functional.ei_scales``)

    batch: one batch of inputs, run through once; or several, whose moments are pooled (then with as many passes as
    there are layers). Weights come from the stream (seed, layer's name). Each layer remembers in its state dict that it
    is ``initialised``, and is left alone ever after unless ``again``. The model's mode, training or not, is kept.
    Raises ``InputError`` by the layer's name for input that is negative, silent, constant, or too short.
    """
    batches = [batch] if isinstance(batch, Tensor) else list(batch)
    if not batches:
        raise InputError("there is no batch to initialise from")
    return _Pass(model, batches, seed, again).run()
