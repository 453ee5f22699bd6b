"""Widen an ordinary network so that it can be run backwards, and train it by targets instead of gradients."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
torch.manual_seed(0)
plain = nn.Sequential(
    nn.Flatten(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 32),
    nn.ReLU(),
    nn.Linear(32, 10),
)
model, report = eq.nn.invertible(plain, weights="orthogonal")
print(f"{sum(layer.auxiliary for layer in report.layers)} auxiliary units added")

rule = eq.rules.make("gait", model, upkeep="retract")
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
with eq.measure.watch(rule, every=90, measures=("angles", "orthogonality")) as seen:
    for epoch in range(10):
        for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
            optimizer.zero_grad()
            rule.backward(*digits.train.batch(batch))  # here stood loss.backward()
            optimizer.step()
            rule.maintain()  # the weights stay orthogonal, so their inverse stays their transpose

x, y = digits.test.batch(torch.arange(len(digits.test)))
print(f"test accuracy {(model(x).argmax(1) == y).double().mean():.3f}")
for row in seen.rows:
    print(f"step {row['step']:3.0f}: {row['angle']:.3f}° from backpropagation, ||WW'-I|| {row['orthogonality']:.3f}")
