"""Balance a trained network: the same function, the smallest norm, every layer of the same size."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(3):
    for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
        x, y = digits.train.batch(batch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

x, y = digits.test.batch(torch.arange(len(digits.test)))
before = model(x).detach()
print(eq.balance.graph(model, example=x[:2]))
report = eq.balance.balance_(model, example=x[:2])
after = model(x).detach()
print(f"norm {report.cost_before**0.5:.3f} -> {report.cost_after**0.5:.3f}")
print(f"largest relative deficit {report.deficit_before:.3f} -> {report.deficit:.12f}")
print(f"accuracy {(before.argmax(1) == y).double().mean():.3f} -> {(after.argmax(1) == y).double().mean():.3f}")
print(f"scores moved by {(after - before).abs().max() / before.abs().max():.9f} of the largest")
