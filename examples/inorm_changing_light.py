"""Inhibition in place of layer normalisation, on digits whose brightness changes from image to image."""

import torch
from torch import nn

import equipoise as eq
from equipoise import nn as enn

digits = eq.data.load("digits")


def network(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, units in ((64, 128), (128, 128)):
        if kind == "layer norm":
            layers += [nn.Linear(inputs, units), nn.LayerNorm(units, elementwise_affine=False)]
        elif kind == "E-I, no norm":
            layers += [enn.DaleLinear(inputs, units)]
        else:
            layers += [enn.INormLinear(inputs, units, gradnorm="center" if "center" in kind else ())]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def shifted(x: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    return (x + torch.rand(len(x), *[1] * (x.ndim - 1), generator=source) - 0.5).clamp(0, 1)


for kind in ("layer norm", "E-I, no norm", "I-Norm", "I-Norm + center"):
    model, light = network(kind), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(enn.param_groups(model, lr=0.1), lr=0.1)
    enn.enforce(optimizer, model)
    rule = eq.rules.make("bp", model, example=digits.train.batch(torch.arange(2))[0])
    for epoch in range(8):
        for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
            x, y = digits.train.batch(batch)
            optimizer.zero_grad()
            rule.backward(shifted(x, light), y)
            optimizer.step()
    x, y = digits.test.batch(torch.arange(len(digits.test)))
    correct = (model(shifted(x, torch.Generator().manual_seed(2))).argmax(1) == y).float().mean()
    print(f"{kind:16} {correct:.1%} of the test digits under changing light")
