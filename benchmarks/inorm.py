"""``inorm.*``: what inhibitory normalisation costs.

``inorm_center.vs_layernorm``: a training step of 784-300-300-10 at batch 32, error centred, with the local objective
and Dale's law, over the same step of stock ``nn.Linear`` and ``nn.LayerNorm``, plain SGD on both sides. That network
has no inhibitory weights and nothing to clamp, so it is the strictest reading of "over the LN net".
``inorm_center.vs_layernorm_ei``: over the one that the I-Norm paper compares with, excitatory and inhibitory cells all
of which the task trains, with layer normalisation, under Dale's law by the same rule.
``epoch_over_matmul``: a piece of an epoch (batches gathered from 60,000 images of bytes, shifted in luminance and
clamped, then the step) over the bare matrix products that it cannot do without.

The first two print as their floor a step of nothing but products, weights' update and clamp, over the same baseline,
timed at the start: I-Norm multiplies twice as much as layer normalisation (the divisive pool is as wide as the layer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.baselines import LR, Net
from benchmarks.harness import Effort, Pair, Side, compare, timed

WIDTHS = (784, 300, 300, 10)
BATCH = 32
PIECE = 20  # steps a round


def layer_norm() -> nn.Sequential:
    """The baseline: stock layers, no affine map."""
    parts: list[nn.Module] = []
    for inputs, units in pairwise(WIDTHS[:-1]):
        parts += [nn.Linear(inputs, units), nn.LayerNorm(units, elementwise_affine=False), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(*WIDTHS[-2:]))


def layer_norm_ei() -> nn.Sequential:
    """The paper's own comparison: inhibition that the task trains, then layer normalisation."""
    from equipoise.models import make

    return make("dale:784-300-300-10,norm=layer")


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


def least_step(model: nn.Sequential) -> Step:
    """The products of a step of an I-Norm network, what it learns from one input as one product, and the update."""
    from equipoise.nn import INormLinear, enforce

    update = torch.optim.SGD(model.parameters(), lr=0.0)
    enforce(update, model)
    layers = [layer for layer in model if isinstance(layer, INormLinear)]
    readout = model[-1]
    assert isinstance(readout, nn.Linear)

    @torch.no_grad()
    def step(x: Tensor, y: Tensor) -> None:
        inputs = [x]
        for layer in layers:
            below = inputs[-1].t()
            cells, drive = layer.weight_ie @ below, layer.divisive_ie @ below
            drive = torch.addmm(layer.weight_ee @ below, layer.weight_ei, cells)
            inputs.append(drive.t())
        g = readout.weight @ inputs[-1].t()
        readout.weight.grad, readout.bias.grad = g @ inputs.pop(), g[:, 0].clone()
        g = readout.weight.t() @ g
        for layer in reversed(layers):
            stacked = torch.cat([g, layer.weight_ei.t() @ g, g]) @ inputs.pop()
            parts = stacked.split((layer.units, layer.pool, layer.divisive_pool))
            layer.weight_ee.grad, layer.weight_ie.grad, layer.divisive_ie.grad = parts
            layer.bias.grad = g[:, 0].clone()
            g = layer.weight_ee.t() @ g if inputs else g
        update.step()
        update.zero_grad(set_to_none=True)

    return step


def against(baseline: Callable[[], Step]) -> Pair:
    """An I-Norm step over another one, and the floor under their ratio."""
    batches = Net(layer_norm, (WIDTHS[0],), BATCH).batches()

    def piece() -> Iterator[tuple[Tensor, Tensor]]:
        return iter(batches * (PIECE // len(batches)))

    def side(step: Step) -> Side:
        return timed(repeated(step, piece))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, theirs, least = side(local_step(inorm_center())), side(baseline()), side(least_step(inorm_center()))
    floor = compare(Pair(least, theirs, effort=Effort(least=20, most=40))).value
    return Pair(ours, theirs, floor=floor)


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
    yield "inorm.inorm_center.vs_layernorm", lambda: against(lambda: plain_step(layer_norm()))
    yield "inorm.inorm_center.vs_layernorm_ei", lambda: against(lambda: local_step(layer_norm_ei()))
    yield "inorm.epoch_over_matmul", epoch_over_matmul
