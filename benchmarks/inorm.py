"""``inorm.inorm_center.vs_layernorm`` and ``inorm.epoch_over_matmul``: what inhibitory normalisation costs.

The first: a training step of 784-300-300-10 at batch 32, error centred, with the local objective and Dale's law, over
the same step with ``nn.LayerNorm``. The second: a piece of an epoch (batches gathered from 60,000 images of bytes,
shifted in luminance and clamped, then the step) over the bare matrix products that it cannot do without.
The floor of the first is the ratio of the two steps' multiplications: what it would be without anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.baselines import LR, Net
from benchmarks.harness import Pair, timed

WIDTHS = (784, 300, 300, 10)
BATCH = 32
PIECE = 20  # steps a round


def layer_norm() -> nn.Sequential:
    """The baseline: stock layers, no affine map."""
    parts: list[nn.Module] = []
    for inputs, units in pairwise(WIDTHS[:-1]):
        parts += [nn.Linear(inputs, units), nn.LayerNorm(units, elementwise_affine=False), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(*WIDTHS[-2:]))


def inorm_center() -> nn.Sequential:
    """The same with inhibition in the place of layer normalisation, and the error centred."""
    from equipoise.nn import INormLinear

    parts: list[nn.Module] = []
    for inputs, units in pairwise(WIDTHS[:-1]):
        parts += [INormLinear(inputs, units, gradnorm="center", bias="inside"), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(*WIDTHS[-2:]))


Step = Callable[[Tensor, Tensor], None]


def plain_step(model: nn.Module) -> Step:
    """Forward, cross-entropy, backward, plain SGD (the paper's), gradients set to None."""
    update = torch.optim.SGD(model.parameters(), lr=LR)

    def step(x: Tensor, y: Tensor) -> None:
        nn.functional.cross_entropy(model(x), y).backward()
        update.step()
        update.zero_grad(set_to_none=True)

    return step


def local_step(model: nn.Module) -> Step:
    """The same by the rule ``bp``, which adds the local objectives, and with the weights held non-negative."""
    from equipoise import rules
    from equipoise.nn import enforce

    rule = rules.make("bp", model, example=torch.rand(2, WIDTHS[0]))
    update = torch.optim.SGD(model.parameters(), lr=LR)
    enforce(update, model)

    def step(x: Tensor, y: Tensor) -> None:
        rule.backward(x, y)
        update.step()
        update.zero_grad(set_to_none=True)

    return step


def repeated(step: Step, batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> Callable[[], None]:
    """A piece of an epoch."""

    def piece() -> None:
        for x, y in batches():
            step(x, y)

    return piece


def vs_layernorm() -> Pair:
    batches = Net(layer_norm, (WIDTHS[0],), BATCH).batches()

    def piece() -> Iterator[tuple[Tensor, Tensor]]:
        return iter(batches * (PIECE // len(batches)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, baseline = local_step(inorm_center()), plain_step(layer_norm())
    floor = operations(inorm_center()) / operations(layer_norm())
    return Pair(timed(repeated(ours, piece)), timed(repeated(baseline, piece)), floor=floor)


def products(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The matrix products of one step: each pool's drive, each weight's gradient, and the error sent down."""
    from equipoise.nn import INormLinear

    h = torch.rand(BATCH, WIDTHS[0])
    pairs: list[tuple[Tensor, Tensor]] = []
    for layer in model:
        if isinstance(layer, INormLinear):
            drives = [layer.weight_ee, layer.weight_ie, layer.divisive_ie]
        elif isinstance(layer, nn.Linear):
            drives = [layer.weight]
        else:
            continue
        for weight in drives:
            w, g = weight.detach(), torch.rand(BATCH, weight.shape[0])
            pairs += [(h, w.t()), (g.t(), h)]
        if pairs[0][0] is not h:
            pairs.append((torch.rand(BATCH, drives[0].shape[0]), drives[0].detach()))
        if isinstance(layer, INormLinear):
            inner = layer.weight_ei.detach()
            pairs += [(torch.rand(BATCH, layer.pool), inner.t()), (torch.rand(BATCH, layer.units), inner)]
        h = torch.rand(BATCH, drives[0].shape[0])
    return pairs


def operations(model: nn.Module) -> int:
    """Multiplications in one step's matrix products."""
    return sum(a.shape[0] * a.shape[1] * b.shape[1] for a, b in products(model))


def multiply(pairs: list[tuple[Tensor, Tensor]]) -> Callable[[], None]:
    """The bare products of a piece."""

    def piece() -> None:
        for _ in range(PIECE):
            for a, b in pairs:
                torch.mm(a, b)

    return piece


def epoch_over_matmul() -> Pair:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60_000, WIDTHS[0]), generator=source, dtype=torch.uint8)
    labels = torch.randint(WIDTHS[-1], (60_000,), generator=source)

    def piece() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randint(60_000, (PIECE, BATCH), generator=source)
        for rows in order:
            shift = torch.rand(BATCH, 1, generator=source) * 1.5 - 0.75
            yield (images[rows].float().div_(255) + shift).clamp_(0, 1), labels[rows]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        step = local_step(inorm_center())
    return Pair(timed(repeated(step, piece)), timed(multiply(products(inorm_center()))), floor=1.0)


def cases() -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Names, and what prepares each pair when its turn comes."""
    yield "inorm.inorm_center.vs_layernorm", vs_layernorm
    yield "inorm.epoch_over_matmul", epoch_over_matmul
