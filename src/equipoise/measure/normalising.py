"""How near a layer's activity, and the error it passes on, are to those of layer normalisation.

Circuits are found by what they have: ``weight_ee`` (their excitatory weights) and ``edit`` (their ``GradNorm``, whose
``modes`` say what it does to the error). Layers without both are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.functional.gradnorm import edit_error, gradnorm
from equipoise.functional.moments import mean, normalise, variance
from equipoise.measure.alignment import alignment
from equipoise.measure.catalogue import Measure, measures

__all__ = ["circuits", "cosine", "moments", "normalising"]

CENTER = frozenset({"center"})


def circuits(model: nn.Module) -> dict[str, Any]:
    """The circuits of ``model`` that a GradNorm belongs to, by name."""
    return {n: m for n, m in model.named_modules() if hasattr(m, "weight_ee") and hasattr(m, "edit")}


def cosine(a: Tensor, b: Tensor) -> float:
    """a . b / (|a| |b|) of two tensors as vectors, in float64; NaN where either is zero."""
    u, v = a.detach().reshape(-1).double(), b.detach().reshape(-1).double()
    size = float(u.norm() * v.norm())
    return float(u @ v) / size if size > 0 else float("nan")


def moments(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Mean, population variance and raw second moment over units of what enters each ReLU; means over the batch.

    Of images the statistics are over channels at each position. Keys moments/<k>/mean, variance, second for the k-th
    ReLU from 1, and moments/mean, ... over all of them. Source: I-Norm paper, Figure 3b, on pre-activations.
    """
    seen: list[Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().double()))
        for m in rule.model.modules()
        if isinstance(m, nn.ReLU)
    ]
    try:
        with torch.no_grad():
            rule.model(x)
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, float] = {}
    for k, z in enumerate(seen, 1):
        dim = -3 if z.ndim == 4 else -1
        values = {"mean": mean(z, dim=dim), "variance": variance(z, dim=dim), "second": mean(z.square(), dim=dim)}
        found |= {f"moments/{k}/{name}": float(value.mean()) for name, value in values.items()}
    for name in ("mean", "variance", "second") if seen else ():
        found[f"moments/{name}"] = sum(found[f"moments/{k + 1}/{name}"] for k in range(len(seen))) / len(seen)
    return found


def normalising(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Cosines to layer normalisation per circuit and over all, as the I-Norm program has them and for the task's error.

    output: relu(z) and relu(LN(z)). gradient: of sum relu(z) and of sum relu(LN(z)) with respect to W_EE, with the
    layer's GradNorm and without; where that is lateral inhibition alone, exact centring takes the place of LN. task:
    what the rule writes into W_EE and the loss's gradient in a twin with LN(W_EE h) in place of every dense circuit.
    exact_angle: degrees from what the rule writes into W_EE to the exact gradient of the network's own function.
    error_flips, weight_flips: the share of errors, and of entries of W_EE's gradient, that centring the error over
    units gives another sign. Source: I-Norm paper, section 4.5, Figures 4b, 5b, 6b.
    """
    found_circuits = circuits(rule.model)
    if not found_circuits:
        return {}
    params = {n: p.detach() for n, p in rule.model.named_parameters() if p.requires_grad}
    noise = rule.draw(x, generator)
    written, *_ = rule.gradients(params, x, y, noise=noise)
    with _twin(found_circuits):
        true, *_ = rule.reference().gradients(params, x, y, noise=noise)
    exact = alignment(rule, x, y, "exact", generator=generator)
    seen, errors = _pass(rule, found_circuits, x, y)
    values: dict[str, dict[str, float]] = {}
    for name, circuit in found_circuits.items():
        weight = f"{name}.weight_ee"
        layer = _local(circuit, seen[name]) | _flips(circuit, seen[name], errors[name])
        if circuit.weight_ee.ndim == 2:
            layer["task"] = cosine(written[weight], true[weight])
        layer["exact_angle"] = exact.get(weight, exact.get(name, float("nan")))
        for key, value in layer.items():
            values.setdefault(key, {})[name] = value
    found = {f"{key}/{name}": value for key, by_layer in values.items() for name, value in by_layer.items()}
    found |= {key: sum(by_layer.values()) / len(by_layer) for key, by_layer in values.items()}
    return found


@contextmanager
def _unedited(circuit: Any) -> Iterator[None]:
    """Within the block the circuit's GradNorm lets the error pass."""
    modes, circuit.edit.modes = circuit.edit.modes, frozenset()
    try:
        yield
    finally:
        circuit.edit.modes = modes


@contextmanager
def _twin(found: dict[str, Any]) -> Iterator[None]:
    """Within the block each dense circuit gives LN(W_EE h + b), or LN(W_EE h) + b, as its bias lies."""

    def instead(circuit: Any, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inside = circuit.place == "inside"
        z = normalise(F.linear(given[0], circuit.weight_ee, circuit.bias if inside else None), eps=circuit.eps)
        return z if inside or circuit.bias is None else z + circuit.bias

    with ExitStack() as stack:
        for circuit in found.values():
            if circuit.weight_ee.ndim == 2:
                stack.callback(circuit.register_forward_hook(instead).remove)
                # Rules take this short cut past the hook, where a circuit has it.
                circuit.forward_with_loss = lambda input: None
                stack.callback(circuit.__dict__.pop, "forward_with_loss")
        yield


def _pass(rule: Any, found: dict[str, Any], x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each circuit's input, and the error of the loss at its output, by backpropagation."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = given[0].detach(), output

        return hook

    hooks = [circuit.register_forward_hook(keep(name)) for name, circuit in found.items()]
    try:
        with torch.enable_grad():
            loss = rule.loss.value(rule.model(x), y)
    finally:
        for hook in hooks:
            hook.remove()
    errors = torch.autograd.grad(loss, list(outputs.values()))
    return inputs, dict(zip(outputs, errors, strict=True))


def _local(circuit: Any, h: Tensor) -> dict[str, float]:
    dim = circuit.edit.dim
    with torch.enable_grad():
        (ours,) = torch.autograd.grad(circuit(h).relu().sum(), circuit.weight_ee)
        with _unedited(circuit):
            z = circuit(h)
        normal = normalise(z, dim=dim)
        target = gradnorm(z, CENTER, dim=dim) if circuit.edit.modes == {"lateral"} else normal
        (theirs,) = torch.autograd.grad(target.relu().sum(), circuit.weight_ee)
    return {"output": cosine(normal.relu(), z.relu()), "gradient": cosine(ours, theirs)}


def _flips(circuit: Any, h: Tensor, error: Tensor) -> dict[str, float]:
    moved = edit_error(error, error, CENTER, dim=circuit.edit.dim)
    with torch.enable_grad(), _unedited(circuit):
        z = circuit(h)
        (plain,) = torch.autograd.grad(z, circuit.weight_ee, error, retain_graph=True)
        (centred,) = torch.autograd.grad(z, circuit.weight_ee, moved)
    return {"error_flips": _changed(error, moved), "weight_flips": _changed(plain, centred)}


def _changed(a: Tensor, b: Tensor) -> float:
    """The share of the non-zero entries of ``a`` that have the other sign in ``b``."""
    held = a != 0
    return float((a * b < 0).sum() / held.sum()) if bool(held.any()) else float("nan")


measures.register("moments")(Measure("moments", moments, "epoch", "mean, variance, second moment of what enters ReLU"))
measures.register("normalising")(
    Measure("normalising", normalising, "epoch", "cosines of activity and gradients to those of layer normalisation")
)
