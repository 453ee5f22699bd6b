"""How close is a rule to backpropagation? Degrees per layer, before and after learning."""

import torch

import equipoise as eq

digits = eq.data.load("digits")
x, y = digits.test.batch(torch.arange(200))
for name in ("fa", "dfa"):
    model = eq.models.make("mlp:64-256-128-10", seed=0)
    rule = eq.rules.make(name, model, example=x)
    before = eq.measure.alignment(rule, x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    for epoch in range(5):
        for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
            optimizer.zero_grad()
            rule.backward(*digits.train.batch(batch))
            optimizer.step()
    after = eq.measure.alignment(rule, x, y)
    for layer in after:
        print(f"{name:4} layer {layer}: {before[layer]:5.1f} -> {after[layer]:5.1f} degrees")
