"""What a rule costs: the time of its gradients over the time of backpropagation's, measured side by side."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["step_cost", "upkept_cost"]


class Backward(Protocol):
    """What cost needs of a rule."""

    def backward(self, x: Tensor, y: Tensor, *, sync: bool = True) -> Any: ...
    def reference(self) -> Backward: ...


def step_cost(
    rule: Any, x: Tensor, y: Tensor, *, rounds: int = 30, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median over ``rounds`` of time(rule.backward) / time(backpropagation) on the same model and batch (x, y).

    The two are interleaved in pairs, after one warm-up of each. It is an indication, for a machine that does other
    things too; ``benchmarks/`` measures with intervals. Gradients that the model holds are put back as they were.
    Raises ``InputError`` for fewer than one round.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; give at least 1")
    pair: tuple[Backward, Backward] = (rule, rule.reference())
    params = list(rule.model.parameters())
    before = [p.grad for p in params]
    buffers = [(b, b.clone()) for b in rule.model.buffers()]

    def wait() -> None:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    def timed(one: Backward) -> float:
        for p in params:
            p.grad = None
        wait()
        begun = clock()
        one.backward(x, y, sync=False)
        wait()
        return clock() - begun

    for one in pair:
        timed(one)
    ratios = []
    for k in range(rounds):
        times = {id(one): timed(one) for one in (pair if k % 2 else pair[::-1])}
        ratios.append(times[id(pair[0])] / times[id(pair[1])])
    for p, g in zip(params, before, strict=True):
        p.grad = g
    for buffer, value in buffers:
        buffer.copy_(value)
    return statistics.median(ratios)


def upkept_cost(
    rule: Any, x: Tensor, y: Tensor, *, rounds: int = 30, clock: Callable[[], float] | None = None
) -> float:
    """Total time of ``rounds`` of rule.backward and rule.maintain, over that of as many of backpropagation's backward.

    As ``step_cost``, but with the upkeep that a rule asks for after each step, and totals in place of a median, since
    upkeep may come every few steps. It runs on a copy of the model, on which no optimiser steps in between. The clock
    is the process's own (processor seconds) on the CPU, so that other processes do not count.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; give at least 1")
    clock = clock if clock is not None else time.perf_counter if x.is_cuda else time.process_time
    _, own = copy.deepcopy((rule.model, rule))
    pair: tuple[Any, Any] = (own, own.reference())
    totals = [0.0, 0.0]
    for k in range(-2, rounds):
        for place in (0, 1) if k % 2 else (1, 0):
            one = pair[place]
            for p in own.model.parameters():
                p.grad = None
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            begun = clock()
            one.backward(x, y, sync=False)
            if place == 0:
                one.maintain()
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            totals[place] += (clock() - begun) * (k >= 0)
    return totals[0] / totals[1]
