"""What is tried before members of different widths train together: that padding changes nothing of any of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.population import widths
from equipoise.population.alike import Refused
from equipoise.population.core import Core, Tensors
from equipoise.rules import Rule

__all__ = ["check_outputs", "check_padding"]

_ROWS = 8
_APART, _ROUNDING = 1e-9, 1e-13


def check_outputs(rules: Sequence[Rule]) -> None:
    """Raise ``Refused`` for networks with different numbers of outputs."""
    outputs = sorted({rule.survey.classes for rule in rules if rule.survey is not None})
    if len(outputs) > 1:
        raise Refused("different networks", f"one has {outputs[0]} outputs, another {outputs[-1]}")


def check_padding(rules: Sequence[Rule], x: Tensor, y: Tensor) -> None:
    """Raise ``Refused`` unless padded members of each width have the gradients, buffers and scores of their own.

    Tried in float64 on a few of their samples, x (M, B, ...) and y (M, B, ...), with weights moved a little, so that no
    symmetry of a fresh network hides anything.
    """
    first = widths.kinds(rules)
    if len(first) == 1:
        return
    try:
        found = _apart([_moved(rules[member]) for member in first], x[first, :_ROWS], y[first, :_ROWS])
    except Refused:
        raise
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused("widths", f"padded to the widest: {reason}") from error
    if found:
        raise Refused("widths", f"padding would change the {found}")


@torch.no_grad()
def _moved(rule: Rule) -> Rule:
    """A copy of the rule and its network on the host, in float64, its weights a little greater."""
    model, found = copy.deepcopy((rule.model, rule))
    model.to("cpu", torch.float64)
    found.to("cpu", torch.float64)
    stream = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(torch.rand(parameter.shape, generator=stream, dtype=torch.float64), alpha=0.01)
    model.train()
    return found


def _apart(rules: Sequence[Rule], x: Tensor, y: Tensor) -> str:
    """What padding changes, in words; "" for nothing. x (M, B, ...), y (M, B, ...): a batch for each of the rules."""
    x, y = x.to("cpu", torch.float64), y.cpu() if not y.is_floating_point() else y.to("cpu", torch.float64)
    streams = [torch.Generator().manual_seed(member) for member in range(len(rules))]
    noise = [rule.draw(rows, stream) for rule, rows, stream in zip(rules, x, streams, strict=True)]
    held, core = Tensors.of(rules), Core.of(rules, x[0, :1])
    padded, _ = widths.joined(noise, [widths.blocks(rule) for rule in rules])
    grads, step, buffers = core.gradients(held, x, y, padded)
    scores = core.scores(held, x, shared=False)
    for member, rule in enumerate(rules):
        params = {n: p.detach() for n, p in rule.slots.parameters().items() if p.requires_grad}
        own, report, after = rule.gradients(params, x[member], y[member], noise=noise[member])
        size = math.hypot(*(float(g.norm()) for g in own.values()))
        for kind, mine, theirs in (("gradient", grads, own), ("buffer", buffers, after)):
            name = _first(held, mine, theirs, member, size)
            if name:
                return f"{kind} of '{name}'"
        rule.model.eval()
        with torch.no_grad():
            output = rule.model(x[member])
        for kind, a, b in (("loss", step.loss[member], report.loss), ("scores in evaluation", scores[member], output)):
            if not _near(a, b, float(b.norm())):
                return kind
    return ""


def _first(held: Tensors, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], member: int, size: float) -> str:
    """The first name under which a member's part of the stacks is not what it has alone."""
    for name, own in theirs.items():
        if not _near(held.own(name, mine[name][member], member), own, size):
            return name
    return ""


def _near(a: Tensor, b: Tensor, size: float) -> bool:
    apart = float((a.double() - b.double()).norm())
    return apart <= _APART * float(b.double().norm()) + _ROUNDING * size
