"""PEPITA's definition as two plain forward passes with explicit loops, and chains to compare it on."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules


def dense(*, dropout: float = 0.0, bias: bool = False, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(1)
    drop = [nn.Dropout(dropout)] if dropout else []
    layers = [nn.Flatten(), nn.Linear(12, 9, bias=bias), activation(), *drop]
    layers += [nn.Linear(9, 7, bias=bias), activation(), *drop, nn.Linear(7, 4, bias=bias)]
    return nn.Sequential(*layers).double()


def kernels(*, dropout: float = 0.0, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(2)
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=bias, padding=1),
        nn.ReLU(),
        *drop,
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, bias=bias, stride=2, groups=1),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(24, 4, bias=bias),
    ).double()


def batch(kind: str, n: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    shape = (n, 12) if kind == "dense" else (n, 2, 20, 20)
    return torch.randn(*shape, generator=g).double(), torch.arange(n) % 4


def oracle(model: nn.Sequential, x: Tensor, y: Tensor, feedback: Tensor, noise: dict[str, Tensor], **chosen) -> dict:
    """The rule as printed: two whole passes, explicit loops over samples and positions."""

    def run(h: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        inputs, units, number = [], [], 0
        for layer in model:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                inputs.append(h)
                h = layer(h)
                units.append(h)
            elif isinstance(layer, nn.Dropout):
                h = h * noise[f"dropout{number}"] / (1 - layer.p)
                units[-1] = h
                number += 1
            else:
                h = layer(h)
                if isinstance(layer, nn.ReLU):
                    units[-1] = h
        return inputs, units, h

    with torch.no_grad():
        u, h, output = run(x)
        e = output.softmax(-1) - F.one_hot(y, 4)
        shown = noise["perturbation"] * chosen["k"] if "perturbation" in noise else e
        um, hm, scores = run(x + chosen.get("sign", 1) * (shown @ feedback.T).reshape(x.shape))
        if chosen.get("output_error") == "modulated":
            e = scores.softmax(-1) - F.one_hot(y, 4)
        pre = u if chosen.get("presynaptic") == "standard" else um
        layers = [(n, m) for n, m in model.named_children() if isinstance(m, (nn.Linear, nn.Conv2d))]
        found = {}
        for k, (name, layer) in enumerate(layers):
            post = e if k == len(layers) - 1 else h[k] - hm[k]
            if isinstance(layer, nn.Linear):
                found[f"{name}.weight"] = sum(torch.outer(a, b) for a, b in zip(post, pre[k], strict=True)) / len(x)
                b = post.mean(0)
            else:
                found[f"{name}.weight"] = loop(layer, post, pre[k]) * chosen.get("factor", 1.0)
                b = post.mean((0, 2, 3)) * chosen.get("factor", 1.0)
            if layer.bias is not None:
                found[f"{name}.bias"] = b
    return found


def loop(layer: nn.Conv2d, post: Tensor, x: Tensor) -> Tensor:
    """Position by position: difference times the patch that the kernel saw, averaged over samples and positions."""
    size, stride = layer.kernel_size[0], layer.stride[0]
    p = layer.padding[0]
    x = F.pad(x, (p, p, p, p))
    total = torch.zeros_like(layer.weight)
    for n, i, j in itertools.product(range(len(x)), range(post.shape[2]), range(post.shape[3])):
        patch = x[n, :, i * stride : i * stride + size, j * stride : j * stride + size]
        total += post[n, :, i, j].reshape(-1, 1, 1, 1) * patch
    return total / (len(x) * post.shape[2] * post.shape[3])


def written(model: nn.Module, x: Tensor, y: Tensor, seed: int = 5, **options) -> tuple[dict, dict, rules.Rule]:
    rule = rules.make("pepita", model, example=x[:2], seed=seed, scale=options.pop("scale", 0.5), **options)
    noise = rule.draw(x, torch.Generator().manual_seed(7))
    model.zero_grad()
    rule.backward(x, y, generator=torch.Generator().manual_seed(7))
    return {n: p.grad for n, p in model.named_parameters()}, noise, rule
