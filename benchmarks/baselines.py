"""The named baselines: stock torch networks and a plain backpropagation step, and what they cost at least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import Rates

LR = 1e-4  # small, so that both sides of a pair stay where they started
FLOAT_BYTES = 4
OPTIMIZER_MOVES = 5  # momentum SGD reads gradient, momentum and weight, writes momentum and weight
GRADIENT_MOVES = 1  # the backward pass writes each gradient once
BATCHES = 4


@dataclass(frozen=True)
class Net:
    """A stock network, the shape of one sample and the batch size."""

    build: Callable[[], nn.Sequential]
    shape: tuple[int, ...]
    batch: int
    classes: int = 10

    def model(self, seed: int = 0) -> nn.Sequential:
        """The network with the weights that ``seed`` gives."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build()

    def batches(self, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
        """A few fixed batches of noise with random labels."""
        source = torch.Generator().manual_seed(seed)
        return [
            (
                torch.rand(self.batch, *self.shape, generator=source),
                torch.randint(self.classes, (self.batch,), generator=source),
            )
            for _ in range(BATCHES)
        ]


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Linear(inputs, outputs)] + ([nn.ReLU()] if i < len(widths) - 2 else [])
    return nn.Sequential(*layers)


def convolutional() -> nn.Sequential:
    """32 kernels of 5 x 5 without padding, ReLU, max-pooling by 2, ten outputs."""
    return nn.Sequential(nn.Conv2d(3, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 14 * 14, 10))


NETS = {
    "fc_cifar": Net(lambda: perceptron(3072, 1024, 10), (3072,), 64),
    "deep": Net(lambda: perceptron(784, 1024, 1024, 1024, 10), (784,), 64),
    "conv": Net(convolutional, (3, 32, 32), 100),
}


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)


def bp_step(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Callable[[], None]:
    """One plain training step: forward, cross-entropy, backward, SGD with momentum, gradients set to None."""
    update = optimizer(model)
    source = cycle(batches)

    def step() -> None:
        x, y = next(source)
        F.cross_entropy(model(x), y).backward()
        update.step()
        update.zero_grad(set_to_none=True)

    return step


@dataclass(frozen=True)
class Layer:
    """One weighted layer's product: floating-point operations, parameters, and width of its input."""

    flops: int
    parameters: int
    input_width: int


def layers(net: Net) -> list[Layer]:
    """The products of one forward pass, in order."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        flops = 2 * output.numel() * (weight.numel() // weight.shape[0])
        found.append(Layer(flops, sum(p.numel() for p in module.parameters()), inputs[0][0].numel()))

    model = net.model()
    for module in model:
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        model(torch.zeros(net.batch, *net.shape))
    return found


@dataclass(frozen=True)
class Work:
    """What a step must do at least: operations of its matrix products, bytes of gradients and optimiser."""

    flops: int
    bytes: int

    def seconds(self, rates: Rates) -> float:
        return self.flops / rates.flops + self.bytes / rates.bytes


def least_work(net: Net, rule: str) -> Work:
    """The least work of one step by ``rule``.

    Every rule needs the forward products, and but for ``shallow`` (the last layer's alone) a weight gradient per
    layer. ``bp``, ``fa``, ``usf``: also an input gradient per layer but the first. ``dfa``, ``drtp``: one product
    (B, classes) x (classes, I) per layer but the first. ``pepita``: the columns of F through the first layer, and a
    second forward product per hidden layer but the first. A layer's three products have the same size.
    """
    all_layers = layers(net)
    trained = all_layers[-1:] if rule == "shallow" else all_layers
    forward = sum(layer.flops for layer in all_layers)
    weights = sum(layer.flops for layer in trained)
    hidden = all_layers[1:]
    match rule:
        case "bp" | "fa" | "usf":
            errors = sum(layer.flops for layer in hidden)
        case "pepita":
            errors = all_layers[0].flops * net.classes // net.batch + sum(layer.flops for layer in hidden[:-1])
        case "dfa" | "drtp":
            errors = sum(2 * net.batch * net.classes * layer.input_width for layer in hidden)
        case _:
            errors = 0
    parameters = sum(layer.parameters for layer in trained)
    moved = FLOAT_BYTES * (OPTIMIZER_MOVES + GRADIENT_MOVES) * parameters
    return Work(forward + weights + errors, moved)


def floor(net: Net, rule: str, rates: Rates) -> float:
    """The lowest ratio to backpropagation that the products and the optimiser's bytes allow."""
    return least_work(net, rule).seconds(rates) / least_work(net, "bp").seconds(rates)


def vgg16() -> nn.Sequential:
    """VGG-16 with its 138 M weights: thirteen convolutions of 3 x 3 with ReLU, five poolings, three linear layers."""
    layers: list[nn.Module] = []
    channels = 3
    for repeats, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*layers, nn.Flatten(), *perceptron(512 * 7 * 7, 4096, 4096, 1000))


def balance_neuron_by_neuron(model: nn.Sequential, tol: float) -> int:
    """The straightforward loop: each hidden neuron's best scale in turn, until no neuron is off by more than ``tol``.

    For neuron i, A and B the sums of squares of its incoming weights with bias and of its outgoing weights:
    scale = (B / A)^(1/4). Returns the number of rounds.
    """
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    rounds, worst = 0, 1.0
    with torch.no_grad():
        while worst > tol:
            rounds, worst = rounds + 1, 0.0
            for before, after in pairwise(linear):
                for i in range(before.out_features):
                    a = float(before.weight[i].square().sum() + before.bias[i].square())
                    b = float(after.weight[:, i].square().sum())
                    worst = max(worst, abs(a - b) / (a + b))
                    scale = (b / a) ** 0.25
                    before.weight[i] *= scale
                    before.bias[i] *= scale
                    after.weight[:, i] /= scale
    return rounds
