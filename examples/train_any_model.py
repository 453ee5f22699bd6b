"""Train an ordinary PyTorch model with feedback alignment: one line of the loop changes."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
rule = eq.rules.make("fa", model)

for epoch in range(5):
    for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
        x, y = digits.train.batch(batch)
        optimizer.zero_grad()
        rule.backward(x, y)  # here stood loss.backward()
        optimizer.step()

x, y = digits.test.batch(torch.arange(len(digits.test)))
print(f"test accuracy {(model(x).argmax(1) == y).double().mean():.3f}")
