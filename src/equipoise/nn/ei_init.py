"""E-I Init: the weights of every E-I layer from one look at data, layer by layer, in the order of the signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.ei_scales import ei_scales
from equipoise.nn.ei_moments import Sums
from equipoise.nn.encode import UnitRange
from equipoise.nn.spiking import LIF
from equipoise.randomness import generator

__all__ = ["EIInitReport", "LayerInit", "ei_init_"]


@runtime_checkable
class Initialised(Protocol):
    """A layer that starts from the moments of its input: ``initialise_`` sets its weights and ``initialised``."""

    initialised: Tensor

    def initialise_(
        self, first: float, second: float, within: float, stream: torch.Generator, inputs: Iterable[Tensor]
    ) -> float:
        """Set the weights from the moments of the ``inputs``, batch by batch; the scale of the excitatory ones."""
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
    """Every layer that was set, those that had been before, and the firing rates."""

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

    def __init__(self, model: nn.Module, batches: Iterable[Any], seed: int, again: bool) -> None:
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

    def run(self) -> EIInitReport:
        """Set the layers."""
        with _aside(self.model, tuple(self.layers.values())) as restore, _hooked(_ranges(self.model)):
            several = sum(1 for _ in islice(self._each(), 2)) - 1
            if several < 0:
                raise InputError("there is no batch to initialise from")
            while self.waiting:
                restore()
                before = len(self.waiting)
                self._stream(restore) if several else self._once()
                if len(self.waiting) == before:
                    raise InputError(
                        f"the model did not use '{next(iter(self.waiting))}' for this batch, so it has no input"
                    )
            restore()
            return EIInitReport(tuple(self.done), self.kept, self._rates())

    def _each(self) -> Iterator[Tensor]:
        """The batches, anew: tensors, or the first parts of what a ``DataLoader`` gives."""
        for batch in self.batches:
            x = batch[0] if isinstance(batch, tuple | list) and batch else batch
            if not isinstance(x, Tensor):
                raise InputError(f"a batch is a tensor, or a tuple that begins with one, not {type(x).__name__}")
            yield x

    def _rates(self) -> dict[str, float]:
        """How often the cells of each layer spike in all batches."""
        counted: dict[str, tuple[float, int]] = {}

        def count(name: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Tensor) -> None:
                spikes, cells = counted.get(name, (0.0, 0))
                counted[name] = spikes + float(output.double().sum()), cells + output.numel()

            return hook

        cells = [(_called(n, m), m) for n, m in self.model.named_modules() if _spikes(m)]
        with _hooked(m.register_forward_hook(count(n)) for n, m in cells):
            for batch in self._each():
                self.model(batch)
        return {name: spikes / max(1, cells) for name, (spikes, cells) in counted.items()}

    def _once(self) -> None:
        """One pass with the only batch, which sets all layers on its way."""

        def meet(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                if name in self.waiting:
                    sums = Sums()
                    sums.add(_called(name, module), args[0])
                    self._set(name, module, sums, [args[0]])

            return hook

        with _hooked(m.register_forward_pre_hook(meet(n)) for n, m in self.waiting.items()):
            for batch in self._each():
                self.model(batch)

    def _stream(self, restore: Callable[[], None]) -> None:
        """One pass with all batches up to the next layer, which is then set."""
        sums, target = Sums(), ""
        for name, h in self._inputs(self.waiting):
            if not target or name == target:
                target = name
                sums.add(_called(name, self.waiting[name]), h)
        if target:
            module = self.waiting[target]
            self._set(target, module, sums, _Again(lambda: self._inputs({target: module}), restore))

    def _inputs(self, layers: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
        """For each batch, the first of ``layers`` that it reaches, and the input there; the rest is not run."""
        met: list[tuple[str, Tensor]] = []

        def meet(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                met.append((name, args[0]))
                raise _Enough

            return hook

        for batch in self._each():
            with _hooked(m.register_forward_pre_hook(meet(n)) for n, m in layers.items()), suppress(_Enough):
                self.model(batch)
            yield from met
            met.clear()

    def _set(self, name: str, module: Any, sums: Sums, inputs: Iterable[Tensor]) -> None:
        called = _called(name, module)
        first, second, within = sums.moments(called)
        fan_in = getattr(module, "layer", module).fan_in
        try:
            beta = module.initialise_(first, second, within, generator(self.seed, "ei_init", name), inputs)
        except InputError as error:
            raise InputError(f"'{called}': {error}") from None
        gamma = ei_scales(first, second, within, fan_in)[1]
        self.done.append(LayerInit(called, first, second, within, beta, gamma))
        del self.waiting[name]


class _Again:
    """The inputs of a layer, to be gone through as often as it likes: every time the batches run as far as there."""

    def __init__(self, inputs: Callable[[], Iterator[tuple[str, Tensor]]], restore: Callable[[], None]) -> None:
        self.inputs, self.restore = inputs, restore

    def __iter__(self) -> Iterator[Tensor]:
        self.restore()
        return (h for _, h in self.inputs())


@contextmanager
def _aside(model: nn.Module, layers: tuple[nn.Module, ...]) -> Iterator[Callable[[], None]]:
    """Within, ``model`` is in evaluation mode; what is given puts its buffers back, and at the end all is as before.

    Not those of ``layers``, which are to be set: so every pass sees the same codes, and leaves nothing behind.
    """
    own = {id(m) for layer in layers for m in layer.modules()}
    others = [m for m in model.modules() if id(m) not in own]
    modes = [(m, m.training) for m in model.modules()]
    kept = [(b, b.clone()) for m in others for b in m.buffers(recurse=False)]

    def restore() -> None:
        for buffer, value in kept:
            buffer.copy_(value)

    try:
        model.eval()
        yield restore
    finally:
        restore()
        for module, mode in modes:
            module.training = mode


def _ranges(model: nn.Module) -> Iterator[Any]:
    """Hooks by which encoders that read pixels as probabilities or times check them."""

    def hook(name: str) -> Any:
        def checked(module: Any, args: tuple[Tensor, ...]) -> None:
            try:
                module.check_(args[0])
            except InputError as error:
                raise InputError(f"'{name}': {error}") from None

        return checked

    return (
        m.register_forward_pre_hook(hook(_called(n, m))) for n, m in model.named_modules() if isinstance(m, UnitRange)
    )


def _spikes(module: nn.Module) -> bool:
    return isinstance(module, LIF) or hasattr(module, "neuron")


@torch.no_grad()
def ei_init_(model: nn.Module, batch: Tensor | Iterable[Any], *, seed: int = 0, again: bool = False) -> EIInitReport:
    """Set every E-I layer of ``model`` from data, in place, each from what reaches it once those below are set.

        beta = sqrt(V / (d (m2 + V))),  gamma = sqrt(m2 + V) / (m1 sqrt(d))    (``functional.ei_scales``)

    batch: one batch of inputs, run through once; or several, a ``DataLoader`` say, whose moments are pooled: one at a
    time, with as many passes over them as there are layers. Weights come from the stream (seed, layer's name). Each
    layer remembers in its state dict that it is ``initialised``, and is left alone ever after unless ``again``. The
    model runs in evaluation mode, and but for these layers is left as it was. Raises ``InputError`` by the layer's name
    for input that is negative, silent, constant, or too short, and for pixels that an encoder cannot code.
    """
    if isinstance(batch, Tensor):
        batch = [batch]
    elif isinstance(batch, Iterator):  # which could be gone through but once
        batch = list(batch)
    return _Pass(model, batch, seed, again).run()
