"""What ``convert`` looks for in a model, and what it tells."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

__all__ = ["ConvertReport", "Converted", "Pair", "Skipped", "difference", "is_norm", "outputs", "pairs", "places"]

NON_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softplus, nn.Softmax, nn.Hardsigmoid)
TRANSPARENT = (nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True)
class Converted:
    """One part that was converted: its new kind, whether Dale's law holds in it, what to know, its error on the batch.

    error: the largest difference of outputs for the same input, over the root mean square of the old one; None
    without an example.
    """

    name: str
    norm: str
    kind: str
    dale: bool | None
    notes: tuple[str, ...]
    error: float | None


@dataclass(frozen=True)
class Skipped:
    """One part that stayed as it was, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ConvertReport:
    """What ``convert`` did: ``error`` is the largest difference of the model's outputs on the example, in eval mode."""

    converted: tuple[Converted, ...]
    skipped: tuple[Skipped, ...]
    error: float | None

    def __str__(self) -> str:
        lines = []
        for one in self.converted:
            law = {True: ", Dale's law", False: ", weights of any sign", None: ""}[one.dale]
            error = "" if one.error is None else f", error {one.error:.1e}"
            lines.append(f"{one.name} -> {one.kind}{law}{error}" + "".join(f"; {note}" for note in one.notes))
        lines += [f"{one.name} stays: {one.reason}" for one in self.skipped]
        if self.error is not None:
            lines.append(f"largest difference of the model's outputs on the example: {self.error:.1e}")
        return "\n".join(lines) or "nothing to convert"


class Pair(NamedTuple):
    """A weighted layer whose output goes into a normalisation and nowhere else; ``rates``: its input cannot be < 0."""

    layer: str
    norm: str
    rates: bool


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children()) or super().is_leaf_module(m, module_qualified_name)


def pairs(model: nn.Module) -> list[Pair]:
    """Every (Linear or Conv2d -> normalisation) in ``model``: by its trace, else along its ``nn.Sequential``s."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(model)
    except Exception:  # the user's forward pass decides what can go wrong in a symbolic one
        return list(_along(model))
    return list(_traced(model, graph))


def _traced(model: nn.Module, graph: fx.Graph) -> Iterator[Pair]:
    modules = dict(model.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or not is_norm(modules[str(node.target)]) or not node.args:
            continue
        before: Any = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and calls[id(layer)] == calls[id(norm)] == 1:
            yield Pair(str(before.target), str(node.target), _rates(before.args[0], modules))


def _rates(node: Any, modules: dict[str, nn.Module]) -> bool:
    while isinstance(node, fx.Node):
        if node.op == "call_module":
            module = modules[str(node.target)]
            if isinstance(module, NON_NEGATIVE):
                return True
            if not isinstance(module, TRANSPARENT):
                return False
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            if name in ("relu", "relu_", "sigmoid", "softmax", "abs", "square"):
                return True
            if name not in ("flatten", "dropout", "reshape", "view", "max_pool2d", "avg_pool2d"):
                return False
        else:
            return False
        node = node.args[0]
    return False


def _along(model: nn.Module) -> Iterator[Pair]:
    used = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for prefix, chain in model.named_modules():
        if not isinstance(chain, nn.Sequential):
            continue
        rates = False
        children = list(chain.named_children())
        for (name, layer), (after, norm) in pairwise(children):
            if isinstance(layer, (nn.Linear, nn.Conv2d)) and is_norm(norm) and used[id(layer)] == used[id(norm)] == 1:
                dot = f"{prefix}." if prefix else ""
                yield Pair(f"{dot}{name}", f"{dot}{after}", rates)
            rates = isinstance(layer, NON_NEGATIVE) or (rates and isinstance(layer, TRANSPARENT))


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` normalises over units: torch's LayerNorm and what inherits from it, or our ``Normalise``."""
    ours = all(getattr(module, name, False) is True for name in ("centre", "scale", "forwards", "backwards"))
    return isinstance(module, nn.LayerNorm) or ours


def places(model: nn.Module, wanted: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every (parent, attribute) at which ``wanted`` is registered."""
    found = []
    for parent in model.modules():
        found += [(parent, name) for name, child in parent._modules.items() if child is wanted]
    return found


@torch.no_grad()
def outputs(model: nn.Module, example: Tensor | None) -> Tensor | None:
    """The model's output in eval mode, without noise."""
    if example is None:
        return None
    was = {module: module.training for module in model.modules()}
    try:
        return model.eval()(example)
    finally:
        for module, mode in was.items():
            module.training = mode


def difference(new: Tensor, old: Tensor) -> float:
    """max |new - old| / rms(old); infinite where shapes differ."""
    if new.shape != old.shape:
        return math.inf
    scale = float(old.double().square().mean().sqrt())
    return float((new.double() - old.double()).abs().max()) / max(scale, torch.finfo(torch.float32).tiny)
