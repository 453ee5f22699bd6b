"""``balance.*``: weight passes, wall time and memory of synaptic balance.

``weight_passes`` are counted, not timed. ``vs_cyclic`` and ``vs_neuronwise`` are Newton's time over the other's, from
the layers as both sides know them (a traced graph, a list) to the weights written: 0.1 is ten times faster.
``vs_forward`` is the time to balance, trace included, over that of one forward pass of eight images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.baselines import balance_neuron_by_neuron, perceptron, vgg16
from benchmarks.harness import Effort, Once, Pair
from equipoise import balance

AUTOENCODER = (784, 200, 100, 50, 100, 200, 784)
DEEP = (784, *[256] * 30, 10)
ROW_SCALE = 3.0  # standard deviation of the logarithm of each row's factor
TIGHT, LOOSE, IMAGE_TOL = 1e-10, 1e-3, 1e-6
IMAGES = 8
FEW = Effort(least=5, most=15, width=0.2, agreement=0.1, warm_up=0.0)
LEAST = Effort(least=2, most=2, warm_up=0.0)  # of what takes half a minute


def autoencoder(seed: int = 0) -> nn.Sequential:
    """784-200-100-50-100-200-784 with ReLU, as PyTorch initialises it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return perceptron(*AUTOENCODER)


def deep(seed: int = 0) -> nn.Sequential:
    """Thirty hidden layers of 256, each row of each weight times e^(3 N(0, 1))."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = perceptron(*DEEP)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    layer.weight *= torch.exp(ROW_SCALE * torch.randn(layer.out_features, 1))
    return model


class Restored:
    """A model whose weights are put back before each timed call."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._weights = [p.detach().clone() for p in model.parameters()]

    def seconds(self, work: Callable[[nn.Module], object]) -> float:
        with torch.no_grad():
            for p, start in zip(self.model.parameters(), self._weights, strict=True):
                p.copy_(start)
        start = time.perf_counter()
        work(self.model)
        return time.perf_counter() - start


def passes(model: nn.Module) -> float:
    """Weight passes to the tight tolerance, the search for units without a minimiser included."""
    return balance.balance_(model, tol=TIGHT).weight_passes


def against(model: nn.Module, slow: Callable[[balance.ScalingGraph], object], tol: float, effort: Effort = FEW) -> Pair:
    """Newton's method beside ``slow``, each on the same weights and the same traced graph."""
    restored = Restored(model)
    graph = balance.graph(model)
    return Pair(
        ours=lambda: restored.seconds(lambda _: balance.balance_(graph, tol=tol)),
        baseline=lambda: restored.seconds(lambda _: slow(graph)),
        effort=effort,
    )


def image_pair() -> Pair:
    """Balancing VGG-16 over a forward pass; after the first call the model is balanced, so its weights are put back."""
    model = vgg16().eval()
    restored = Restored(model)
    images = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def forward(m: nn.Module) -> None:
        with torch.no_grad():
            m(images)

    return Pair(
        ours=lambda: restored.seconds(lambda m: balance.balance_(m, tol=IMAGE_TOL)),
        baseline=lambda: restored.seconds(forward),
        effort=FEW,
    )


def extra_memory() -> float:
    """The most bytes that balancing VGG-16 holds at once beyond its weights, over the bytes of the weights.

    Counted as torch's profiler reports allocations and releases.
    """
    model = vgg16()
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    return most_bytes(lambda: balance.balance_(model, tol=IMAGE_TOL)) / held


def most_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that ``work`` holds at once beyond what it found."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def cases() -> Iterator[tuple[str, Callable[[], Pair | Once]]]:
    """Names, and what prepares each when its turn comes."""
    yield "balance.autoencoder.weight_passes", lambda: Once(lambda: passes(autoencoder()))
    yield "balance.deep30.weight_passes", lambda: Once(lambda: passes(deep()))
    yield (
        "balance.newton.vs_cyclic",
        lambda: against(deep(), lambda g: balance.balance_(g, method="cyclic", tol=TIGHT), TIGHT, LEAST),
    )
    yield (
        "balance.newton.vs_neuronwise",
        lambda: against(autoencoder(), lambda g: balance_neuron_by_neuron(g.model, tol=LOOSE), LOOSE),
    )
    yield "balance.vgg16.vs_forward", image_pair
    yield "balance.vgg16.extra_memory", lambda: Once(extra_memory)
