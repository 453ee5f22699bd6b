"""What arithmetic a network does on real activity: accumulates for spikes, multiply-accumulates for everything else.

A *pair* is one input of one cell at one position, for one sample at one time step: a dense product takes a
multiply-accumulate for each. Where the input counts spikes, each spike costs an accumulate for each cell that it
reaches, borders as they are, and no spike costs nothing. Spikes stay spikes when they are moved, added (residual
blocks) or averaged (pooling: the next weights carry the factor). A picture that is the same at every step meets its
first layer once. Batch normalisation is taken to be folded into the weights; pooling and comparisons are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from equipoise.contracts import Costed, Pointwise, Synapses
from equipoise.errors import InputError
from equipoise.measure.activity import untouched
from equipoise.measure.catalogue import Measure, measures
from equipoise.measure.spikes_carried import carried

__all__ = ["Energies", "LayerOperations", "Operations", "operations"]

_PRODUCTS = frozenset({F.linear, F.conv1d, F.conv2d, F.conv3d})


@dataclass(frozen=True)
class Energies:
    """Picojoules an operation, 32-bit floating point in a 45 nm process at 0.9 V.

    An accumulate is an addition, 0.9; a multiply-accumulate a multiplication, 3.7, and an addition (Horowitz 2014).
    Horowitz has no division: 7.1 multiplications, as measured on a Cortex-M4F (Frontiers in Neurology 2022,
    PMC8934428, table 3). Memory is not counted. Raises ``InputError`` for one that is not positive.
    """

    mac: float = 4.6
    accumulate: float = 0.9
    multiplication: float = 3.7
    division: float = 26.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"the energy of a {name} is {value} pJ; it must be above 0")


@dataclass(frozen=True)
class LayerOperations:
    """The operations of one part of one layer, a sample: whole presentations, all time steps together.

    pairs: what a dense product would take, 0 for other arithmetic; rate: accumulates a pair, None for analog input.
    """

    layer: str
    part: str
    pairs: float = 0.0
    rate: float | None = None
    macs: float = 0.0
    accumulates: float = 0.0
    multiplications: float = 0.0
    divisions: float = 0.0

    def energy(self, energies: Energies) -> float:
        """Picojoules a sample."""
        of = energies
        adds = of.mac * self.macs + of.accumulate * self.accumulates
        return adds + of.multiplication * self.multiplications + of.division * self.divisions


@dataclass(frozen=True)
class Operations:
    """The operations of a network, a sample, by layer and part; ``print`` shows a table by layer.

    uncounted: weights that no counted product used, whose operations are missing here.
    """

    parts: tuple[LayerOperations, ...]
    energies: Energies = field(default_factory=Energies)
    uncounted: tuple[str, ...] = ()

    def total(self, what: str, layer: str | None = None, part: str | None = None) -> float:
        """The sum of a field (pairs, macs, accumulates, multiplications, divisions) or "energy" in picojoules."""
        chosen = [one for one in self.parts if layer in (None, one.layer) and part in (None, one.part)]
        if what == "energy":
            return math.fsum(one.energy(self.energies) for one in chosen)
        return math.fsum(getattr(one, what) for one in chosen)

    @property
    def layers(self) -> list[str]:
        """The layers in the order in which they ran."""
        return list(dict.fromkeys(one.layer for one in self.parts))

    def __str__(self) -> str:
        width = max([5, *map(len, self.layers)])
        heads = ("rate in", "pairs", "MAC", "AC", "times", "over", "nJ")
        lines = [f"{'layer':{width}} " + " ".join(f"{head:>9}" for head in heads)]
        for layer in [*self.layers, None]:
            rates = [one.rate for one in self.parts if one.layer == layer and one.pairs]
            rate = "" if not rates else "analog" if rates[0] is None else f"{rates[0]:.3f}"
            counts = [_short(self.total(w, layer)) for w in ("pairs", "macs", "accumulates", *_OTHER)]
            cells = [rate, *counts, f"{self.total('energy', layer) / 1e3:.4g}"]
            lines.append(f"{layer or 'all':{width}} " + " ".join(f"{cell:>9}" for cell in cells))
        of = self.energies
        lines += [
            f"A sample, all its time steps. MAC {of.mac} pJ, AC {of.accumulate}, times {of.multiplication}, over "
            f"{of.division} (45 nm, 32-bit floats, no memory).",
            f"The same products dense, a MAC a pair: {of.mac * self.total('pairs') / 1e3:.4g} nJ.",
        ]
        if self.uncounted:
            lines.append(f"Not counted, as no linear layer or convolution used them: {', '.join(self.uncounted)}")
        return "\n".join(lines)


_OTHER = ("multiplications", "divisions")


def _short(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g} {letter}"
    return f"{count:.4g}"


class _Count(TorchFunctionMode):
    """Counts every product with a weight in one pass, and knows which tensors count spikes."""

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.names = {id(p): n for n, p in model.named_parameters()}
        self.samples, self.parts, self.seen = samples, [], set[int]()
        self.silent, self.fired, self.steps = 0, False, 1

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        if self.silent:
            return out
        if function in _PRODUCTS and len(args) > 1 and id(args[1]) in self.names:
            self.add(self.names[id(args[1])].rpartition(".")[0], _product(function, args, kwargs), None)
            self.seen.add(id(args[1]))
        else:
            carried(function, args, kwargs, out)
        return out

    def spikes(self, made: Any) -> None:
        """Remember that ``made`` holds spikes, if all its entries are 0 or 1."""
        if isinstance(made, Tensor) and made.is_floating_point() and bool(((made == 0) | (made == 1)).all()):
            made._spikes = 1.0  # type: ignore[attr-defined]

    def still(self, source: Tensor) -> bool:
        """Whether all time steps are alike, before any cell has fired."""
        if self.fired or self.steps == 1 or not source.shape[0] or source.shape[0] % self.steps:
            return False
        steps = source.reshape(self.steps, -1)
        return bool((steps == steps[:1]).all())

    def add(self, layer: str, work: Synapses | Pointwise, still: bool | None) -> None:
        """Enter a piece of work; ``still``: whether once is enough for all time steps (None: look)."""
        if isinstance(work, Pointwise):
            over = self.samples * (self.steps if still else 1)
            self.parts.append(
                LayerOperations(layer, work.part, **{n: c / over for n, c in work._asdict().items() if n != "part"})
            )
            return
        over = self.samples * (self.steps if (self.still(work.source) if still is None else still) else 1)
        unit = getattr(work.source, "_spikes", None)
        if unit is None and bool(((work.source == 0) | (work.source == 1)).all()):
            unit = 1.0
        counts = torch.ones_like(work.source) if unit is None else (work.source / unit).round()
        reached = work.reach(counts)
        pairs = reached.numel() * work.inputs * work.cells / over
        if unit is None:
            self.parts.append(LayerOperations(layer, work.part, pairs, macs=pairs))
        else:
            spikes = float(reached.double().sum()) * work.cells / over
            self.parts.append(
                LayerOperations(layer, work.part, pairs, spikes / pairs if pairs else 0.0, accumulates=spikes)
            )


def _product(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Synapses:
    """What a call of a linear layer or a convolution computes."""
    source, weight, *rest = args
    rest = [None, *rest[1:]]
    options = {name: value for name, value in kwargs.items() if name != "bias"}
    groups = options.get("groups", rest[4] if len(rest) > 4 else 1)
    ones = torch.ones_like(weight[:: weight.shape[0] // groups].detach())
    return Synapses(
        "product",
        source,
        weight.shape[0] // groups,
        weight[0].numel(),
        lambda counts: function(counts, ones, *rest, **options),
    )


def operations(model: nn.Module, x: Tensor, *, energies: Energies | None = None) -> Operations:
    """The operations that ``model`` takes for a sample of the batch x (B, ...), counted on its real activity.

    accumulates = sum over spikes of the cells that each reaches; multiply-accumulates = pairs of what is not spikes,
    and one for each step of each spiking cell (its leak); divisions and gains are those of circuits
    (``contracts.Costed``). A whole-number x counts events.
    In eval mode; the model is left as it was. Raises ``InputError`` for an empty batch.
    """
    if not x.shape[0]:
        raise InputError("operations are counted on activity; the batch holds no sample")
    count = _Count(model, x.shape[0])
    with untouched(model, x), torch.no_grad(), ExitStack() as stack:
        model.eval()
        for name, module in model.named_modules():
            for handle in _listen(count, name, module):
                stack.callback(handle.remove)
        given = x.detach().clone() if x.is_floating_point() else x
        if given.is_floating_point() and bool(((given >= 0) & (given == given.round())).all()):
            given._spikes = 1.0  # type: ignore[attr-defined]
        with count:
            model(given)
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1}
    left = tuple(n for n, p in weights.items() if id(p) not in count.seen)
    return Operations(tuple(count.parts), energies or Energies(), left)


def _listen(count: _Count, name: str, module: nn.Module) -> Iterator[Any]:
    """Hooks on one module: on time, on layers that say what they cost, on cells, on whatever makes spikes."""
    timed, costed = hasattr(module, "steps"), isinstance(module, Costed)

    def before(module: Any, args: Any) -> None:
        if timed and hasattr(module, "frames"):
            count.steps = module.steps
        if costed:
            count.silent += 1

    def after(module: Any, args: Any, output: Any) -> None:
        if costed:
            if count.silent == 1:
                still = count.still(args[0]) and not any(hasattr(part, "steps") for part in module.modules())
                for work in module.work(args[0], output):
                    count.add(name or type(module).__name__, work, still)
                count.seen |= {id(p) for p in module.parameters()}
            count.silent -= 1
        elif hasattr(module, "sequence") and timed and not count.silent:
            count.add(name or type(module).__name__, Pointwise("cells", macs=output.numel()), False)
        if timed and not hasattr(module, "frames") and not count.silent:
            count.spikes(output)
            count.fired = count.fired or hasattr(module, "step")

    yield module.register_forward_pre_hook(before)
    yield module.register_forward_hook(after)


def _measured(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    found = operations(rule.model, x)
    names = ("macs", "accumulates", *_OTHER)
    return {
        **{name: found.total(name) for name in names},
        "energy": found.total("energy") / 1e3,
        **{f"energy/{layer}": found.total("energy", layer) / 1e3 for layer in found.layers},
    }


_ABOUT = "multiply-accumulates, accumulates, gains and divisions a sample on real activity, and nanojoules at 45 nm"
measures.register("operations")(Measure("operations", _measured, "epoch", _ABOUT))
