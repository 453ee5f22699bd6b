"""``gait.*.vs_bp``: a step of target propagation over a plain step of the same layers, and how near it is to the exact.

The weights are Q + 0.05 N(0, 1/n), and those after 300 real steps. Both sides train on, as inverses go stale only then.
``degrees_to_exact`` is the largest angle of a layer's update to that of the exact inverse, over some further steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Effort, Once, Pair, timed

DEEP = "invertible:3072-1024-1024-1024-1024-1024-1024-10,spread=0.05"
CONV = "gait-imagenet:3x224x224-1000,spread=0.05"
LEAN = "gait-imagenet:3x224x224-1000,auxiliary=no"
UPKEEP = {"upkeep": "probe"}
REAL_STEPS = 300
# A block of steps, so that what is done for one layer at a time is spread over it.
BLOCK, EFFORT = 1.0, Effort(least=8, most=16, width=0.1)

Batches = tuple[tuple[Tensor, Tensor], ...]


@cache
def deep_batches() -> Batches:
    """Batches of 256 pictures: CIFAR-10 where there is any, else noise."""
    from equipoise import data
    from equipoise.errors import EquipoiseError

    source = torch.Generator().manual_seed(0)
    try:
        train = data.load("cifar10").train
    except EquipoiseError:
        return noise(24, 256, (3, 32, 32), 10)
    return tuple(train.batch(torch.randint(len(train), (256,), generator=source)) for _ in range(24))


def noise(count: int, size: int, shape: tuple[int, ...], classes: int) -> Batches:
    """Normal numbers with random labels."""
    source = torch.Generator().manual_seed(0)
    return tuple(
        (torch.randn(size, *shape, generator=source), torch.randint(classes, (size,), generator=source))
        for _ in range(count)
    )


@cache
def conv_batches() -> Batches:
    """Batches of 8 pictures of noise; what a step costs does not depend on them."""
    return noise(4, 8, (3, 224, 224), 1000)


@cache
def start(spec: str) -> nn.Module:
    """The model ``spec``, to be copied."""
    from equipoise import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.make(spec)


@cache
def trained() -> nn.Module:
    """The deep network after real steps by GAIT."""
    model = copy.deepcopy(start(DEEP))
    step, _ = gait_step(model, deep_batches(), UPKEEP)
    for _ in range(REAL_STEPS):
        step()
    return model


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The paper's, of both sides."""
    return torch.optim.Adam(model.parameters(), lr=1.9e-5, eps=1e-6)


def plain_step(model: nn.Module, batches: Batches) -> Callable[[], None]:
    """Forward, cross-entropy, autograd, Adam."""
    update, source = optimizer(model), cycle(batches)

    def step() -> None:
        x, y = next(source)
        F.cross_entropy(model(x), y).backward()
        update.step()
        update.zero_grad(set_to_none=True)

    return step


def gait_step(model: nn.Module, batches: Batches, options: dict[str, Any]) -> tuple[Callable[[], None], Any]:
    """The same step by GAIT in difference mode, its upkeep and inverses included; and the rule."""
    from equipoise import rules

    rule = rules.make("gait", model, example=batches[0][0][:2], **options)
    update, source = optimizer(model), cycle(batches)

    def step() -> None:
        x, y = next(source)
        rule.backward(x, y)
        update.step()
        rule.maintain()
        update.zero_grad(set_to_none=True)

    return step, rule


def pair(ours: nn.Module, baseline: nn.Module, batches: Batches, options: dict[str, Any]) -> Pair:
    step, _ = gait_step(copy.deepcopy(ours), batches, options)
    plain = plain_step(copy.deepcopy(baseline), batches)
    return Pair(timed(step, block=BLOCK), timed(plain, block=BLOCK), effort=EFFORT)


def degrees(model: nn.Module, batches: Batches, options: dict[str, Any], to: str, steps: int = 24) -> Once:
    """The largest angle of a layer, over some steps, to the exact inverse's update or to backpropagation's."""

    def work() -> float:
        from equipoise import measure

        step, rule = gait_step(copy.deepcopy(model), batches, options)
        worst = 0.0
        for k in range(steps):
            step()
            if k % 8 == 7:
                x, y = batches[0]
                params = {n: p.detach() for n, p in rule.model.named_parameters() if p.ndim >= 2}
                other = rule.exact() if to == "exact" else rule.reference()
                found, wanted = rule.gradients(params, x, y)[0], other.gradients(params, x, y)[0]
                worst = max(worst, *(measure.angle(found[n], wanted[n]) for n in params))
        return worst

    return Once(work)


def cases() -> Iterator[tuple[str, Callable[[], Pair | Once]]]:
    """Names, and what prepares each when its turn comes."""
    for name, options in (("gait.deep", UPKEEP), ("gait.deep.no_upkeep", {})):
        yield f"{name}.vs_bp", lambda o=options: pair(start(DEEP), start(DEEP), deep_batches(), o)
        for to in ("exact", "bp"):
            yield f"{name}.degrees_to_{to}", lambda o=options, t=to: degrees(start(DEEP), deep_batches(), o, t)
    yield "gait.deep.trained.vs_bp", lambda: pair(trained(), trained(), deep_batches(), UPKEEP)
    for to in ("exact", "bp"):
        yield f"gait.deep.trained.degrees_to_{to}", lambda t=to: degrees(trained(), deep_batches(), UPKEEP, t)
    conv = {**UPKEEP, "inverse": "refine"}
    yield "gait.conv.vs_bp", lambda: pair(start(CONV), start(CONV), conv_batches(), conv)
    yield "gait.conv.vs_lean_bp", lambda: pair(start(CONV), start(LEAN), conv_batches(), conv)
    for to in ("exact", "bp"):
        yield f"gait.conv.degrees_to_{to}", lambda t=to: degrees(start(CONV), conv_batches(), conv, t, steps=8)
