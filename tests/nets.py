"""Small networks that hold every way in which a rule can meet a model: the tests' zoo."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules
from equipoise.nn import InvertibleConv2d, InvertibleLinear


class Residual(nn.Module):
    """Convolutions with stride, groups and a functional call, one shared between two blocks; linear; a bare matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding="same")
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.also = self.shared
        self.norm = nn.BatchNorm2d(4)
        self.kernel = nn.Parameter(torch.randn(8, 2, 3, 3) / 4)
        self.fc = nn.Linear(8 * 4 * 4, 6)
        self.matrix = nn.Parameter(torch.randn(6, 5) / 2)
        self.out = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x), inplace=True)
        h = F.relu(h + self.shared(h))
        h = F.relu(h + self.norm(self.also(h)))
        h = F.relu(F.conv2d(h, self.kernel, stride=2, padding=1, groups=2))
        h = torch.tanh(self.fc(h.flatten(1)))
        return self.out(torch.tanh(h @ self.matrix))


class Products(nn.Module):
    """Every spelling of a matrix product that feedback is transported through."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(6, 7) / 2)
        self.b = nn.Parameter(torch.randn(5, 7) / 2)
        self.c = nn.Parameter(torch.randn(5, 6) / 2)
        self.d = nn.Parameter(torch.randn(4, 6) / 2)
        self.e = nn.Parameter(torch.randn(12) / 2)
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(x @ self.a)
        h = torch.tanh(h.mm(self.b.t()))
        h = torch.tanh(torch.addmm(self.bias, h, self.c))
        h = torch.tanh((self.d @ h.T).T)
        return torch.matmul(h, self.d.transpose(0, 1)[:4, :4].contiguous())


class Folded(nn.Module):
    """Event input (B, T, I): time is folded time-major into the batch, and averaged at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, time = x.shape[:2]
        h = torch.tanh(self.one(x.transpose(0, 1).reshape(time * batch, -1)))
        h = torch.tanh(self.two(h))
        return self.out(h).reshape(time, batch, -1).mean(0)


class Dropping(nn.Module):
    """Dropout by module and by function, and channel-wise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 6), nn.Linear(6, 4)
        self.drop, self.channels = nn.Dropout(0.4), nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.channels(torch.relu(self.conv(x))).flatten(1)
        h = F.dropout(torch.relu(self.one(h)), 0.2, self.training)
        return self.out(self.drop(h))


class LocalLayer(nn.Module):
    """A layer with a local objective of its own: inhibition learns to predict the input's mean activity."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.inhibition = nn.Parameter(torch.randn(inputs) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x) - (x @ self.inhibition.detach()).unsqueeze(-1))

    def local_loss(self, input: Tensor) -> Tensor:
        return (input @ self.inhibition - input.mean(-1)).square().mean()


class Circuit(nn.Module):
    """An E-I circuit as one site: projections from below, and an inner pathway from inhibition to excitation."""

    projections = ("weight_ee", "weight_ie")

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_ee = nn.Parameter(torch.rand(outputs, inputs))
        self.weight_ie = nn.Parameter(torch.rand(3, inputs))
        self.weight_ei = nn.Parameter(torch.rand(outputs, 3) / 3)

    def forward(self, x: Tensor) -> Tensor:
        inhibition = F.linear(x, self.weight_ie)
        return torch.tanh(F.linear(x, self.weight_ee) - F.linear(inhibition, self.weight_ei))


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def chain() -> nn.Sequential:
    """Two convolutions with pooling of both kinds, and two matrices: what rules that run the network twice train."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.Tanh(), nn.AvgPool2d(2)),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.ReLU(inplace=True),
        nn.Linear(5, 4),
    )


def square() -> nn.Sequential:
    """Layers with as many units as inputs behind the first: what rules that run a network backwards train."""
    layers = [nn.Linear(6, 5), nn.LeakyReLU(0.1), nn.Linear(5, 5), nn.LeakyReLU(0.3), nn.Linear(5, 5)]
    for layer in layers[2::2]:
        nn.init.orthogonal_(layer.weight)
    return nn.Sequential(*layers)


def patches() -> nn.Sequential:
    """Convolutions whose patches overlap, padded unevenly, with auxiliary channels, and matrices with auxiliary units."""
    model = nn.Sequential(
        InvertibleConv2d(3, 4, 3, 2, "same", first=True),
        nn.LeakyReLU(0.1),
        InvertibleConv2d(4, 5, 3, 2, "same"),
        nn.LeakyReLU(0.2),
        InvertibleConv2d(5, 3, 2, 1, 1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Flatten(),
        InvertibleLinear(27, 9),
        nn.Tanh(),
        InvertibleLinear(9, 4),
    )
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.1)
    return model


def image_batch(n: int = 5, size: int = 8) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return torch.randn(n, 3, size, size, generator=g), torch.arange(n) % 4


def vector_batch(n: int = 5, width: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return torch.randn(n, width, generator=g), torch.arange(n) % 4


def zoo() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """Name -> (model, x, y), in float64, freshly drawn from a fixed seed."""
    torch.manual_seed(0)
    sequence = torch.randn(5, 3, 6)
    nets: dict[str, tuple[nn.Module, tuple[Tensor, Tensor]]] = {
        "mlp": (mlp(6, 7, 5, 4), vector_batch()),
        "residual": (Residual(), image_batch()),
        "products": (Products(), vector_batch()),
        "folded": (Folded(), (sequence, torch.arange(5) % 4)),
        "circuit": (nn.Sequential(Circuit(6, 7), Circuit(7, 5), nn.Linear(5, 4)), vector_batch()),
        "local": (nn.Sequential(LocalLayer(6, 7), LocalLayer(7, 5), nn.Linear(5, 4)), vector_batch()),
        "chain": (chain(), image_batch()),
        "square": (square(), vector_batch()),
        "patches": (patches(), image_batch()),
    }
    return {name: (net.double(), x.double(), y) for name, (net, (x, y)) in nets.items()}


CHAINS = ("mlp", "chain")
# Rules that train chains of invertible layers alone, and nets that they train.
INVERTING = tuple(name for name in rules.names() if rules.registry[name].inverts)
INVERTIBLE = ("square", "patches")
ORDINARY = tuple(name for name in rules.names() if name not in INVERTING)
# Rules that train models of any shape; the others run a chain twice, or backwards.
FREE = tuple(name for name in ORDINARY if not rules.registry[name].forward_only)


def pairs(nets: Iterable[str]) -> list[tuple[str, str]]:
    """Every rule with every net of ``nets``, and with every chain where chains are all that it trains."""
    trained = {**dict.fromkeys(rules.names(), CHAINS), **dict.fromkeys(FREE, tuple(nets))}
    return [(rule, net) for rule in rules.names() for net in (INVERTIBLE if rule in INVERTING else trained[rule])]


def example(rule: str) -> str:
    """A net that ``rule`` trains."""
    return INVERTIBLE[0] if rule in INVERTING else "mlp"


def grads(model: nn.Module) -> dict[str, Tensor | None]:
    return {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def autograd(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor | None]:
    """The gradient of the cross-entropy, by ``loss.backward()``."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    found = grads(model)
    model.zero_grad()
    return found


EXACT = {"rtol": 1e-10, "atol": 1e-13}


def same(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], value, **EXACT, msg=lambda m, n=name: f"{n}: {m}")


def symmetric(rule: rules.Rule) -> None:
    """Make feedback the forward weights themselves."""
    weights = {n.replace(".", "/"): p.detach().clone() for n, p in rule.model.named_parameters()}
    rule.load_state_dict({name: weights[name] for name in rule.state_dict()})
