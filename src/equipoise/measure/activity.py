"""What the layers of a network do on a batch: how often their units are active, and which are silent.

A measure's pass leaves no trace: ``untouched`` lends the model copies of its buffers, and takes back its training
flags and the global random state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["activity", "tensors_of", "untouched"]

# The element-by-element functions that turn a layer's sums into its activity.
NONLINEARITIES = frozenset(
    {
        *(F.relu, F.relu6, F.leaky_relu, F.prelu, F.rrelu, F.threshold, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish),
        *(F.tanh, F.sigmoid, F.hardtanh, F.hardsigmoid, F.hardswish, F.softplus, F.softsign, F.tanhshrink),
        *(F.logsigmoid, F.hardshrink, F.softshrink),
        *(torch.relu, torch.relu_, torch.tanh, torch.tanh_, torch.sigmoid, torch.sigmoid_, torch.selu, torch.celu),
        *(Tensor.relu, Tensor.relu_, Tensor.tanh, Tensor.tanh_, Tensor.sigmoid, Tensor.sigmoid_),
    }
)


@contextmanager
def untouched(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Within the block ``model`` may run on ``x``, and nothing that this changes is kept.

    Each module's training flag, every buffer (by identity and bits) and torch's global random state on the CPU and on
    the device of ``x`` are afterwards what they were. Parameters are not guarded.
    """
    flags = [(module, module.training) for module in model.modules()]
    held = [(m, n, b) for m in model.modules() for n, b in m._buffers.items() if b is not None]
    copies: dict[int, Tensor] = {}
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            for module, name, buffer in held:
                module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            yield
        finally:
            for module, name, buffer in held:
                module._buffers[name] = buffer
            for module, training in flags:
                module.training = training


def activity(model: nn.Module, x: Tensor, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """How active each layer is on the batch x (B, ...): ``rate/<layer>`` and ``dead/<layer>``, both shares in [0, 1].

    rate = share of the layer's activities h that are > 0, over samples, positions and units;
    dead = share of its units with h <= 0 for every sample and position, which for ReLU means silent.

    h is what leaves the last nonlinearity after the layer. A unit is a channel of a convolution, else an entry of
    the last axis. ``weights`` are the model's weights by the name of their layer; h belongs to the one that was used
    last before it, and ``<layer>#2`` is the second use of a shared one. A layer without a nonlinearity has no key. In
    eval mode: no dropout, and batch norm by its running statistics. NaN where h is not finite.
    """
    with untouched(model, x), torch.no_grad(), _Ear(weights) as ear:
        model.eval()
        model(x)
    rates = {f"rate/{layer}": rate for layer, (rate, _) in ear.heard.items()}
    return rates | {f"dead/{layer}": dead for layer, (_, dead) in ear.heard.items()}


class _Ear(TorchFunctionMode):
    """Notes the share of positive values, and of units without any, after each nonlinearity that follows a weight."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = {id(w): (layer, w.ndim > 2) for layer, w in weights.items()}
        self.heard: dict[str, tuple[float, float]] = {}
        self._times: dict[str, int] = {}
        self._source: tuple[str, bool] | None = None
        self._label = ""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        used = [self.weights[id(t)] for t in tensors_of((args, kwargs)) if id(t) in self.weights]
        if used and isinstance(result, Tensor):
            self._source, self._label = used[-1], ""
        if function in NONLINEARITIES and self._source is not None:
            self._note(result)
        return result

    def _note(self, h: Tensor) -> None:
        assert self._source is not None
        layer, channels = self._source
        if not self._label:
            times = self._times[layer] = self._times.get(layer, 0) + 1
            self._label = layer if times == 1 else f"{layer}#{times}"
        self.heard[self._label] = shares(h, axis=1 if channels else -1)


def shares(h: Tensor, *, axis: int) -> tuple[float, float]:
    """The share of positive entries of ``h``, and of the indices along ``axis`` at which no entry is positive."""
    if not bool(h.isfinite().all()):
        return float("nan"), float("nan")
    positive = (h > 0).movedim(axis, 0).reshape(h.shape[axis], -1)
    return float(positive.double().mean()), float((~positive.any(1)).double().mean())


def tensors_of(arguments: Any) -> Iterable[Tensor]:
    """The tensors in nested lists, tuples and dicts of arguments."""
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for item in arguments:
            yield from tensors_of(item)
    elif isinstance(arguments, dict):
        yield from tensors_of(list(arguments.values()))
