"""``rules.<rule>.<net>.vs_bp``: a step by a rule over a plain step, same weights, batches and optimiser.

``control.<net>.vs_itself`` times two copies of the plain step: how far from 1 it reads is the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import nn

from benchmarks.baselines import NETS, Net, bp_step, floor, optimizer
from benchmarks.harness import Pair, timed
from benchmarks.machine import rates

RULES = ("bp", "fa", "usf", "dfa", "drtp", "pepita", "shallow")


def rule_step(name: str, model: nn.Module, net: Net) -> Callable[[], None]:
    """The same training step as ``bp_step`` with ``rule.backward`` where ``loss.backward()`` stood."""
    from equipoise import rules

    batches = net.batches()
    rule = rules.make(name, model, example=batches[0][0])
    update = optimizer(model)
    source = cycle(batches)

    def step() -> None:
        x, y = next(source)
        rule.backward(x, y)
        update.step()
        rule.maintain()
        update.zero_grad(set_to_none=True)

    return step


def rule_pair(rule: str, net: Net) -> Pair:
    return Pair(
        ours=timed(rule_step(rule, net.model(), net)),
        baseline=timed(bp_step(net.model(), net.batches())),
        floor=floor(net, rule, rates(torch.get_num_threads())),
    )


def control_pair(net: Net) -> Pair:
    ours, baseline = (timed(bp_step(net.model(), net.batches())) for _ in range(2))
    return Pair(ours=ours, baseline=baseline, floor=1.0)


def cases() -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Names, and what prepares each pair when its turn comes."""
    for name, net in NETS.items():
        yield f"control.{name}.vs_itself", lambda net=net: control_pair(net)
        for rule in RULES:
            yield f"rules.{rule}.{name}.vs_bp", lambda rule=rule, net=net: rule_pair(rule, net)
