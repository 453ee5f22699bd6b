"""Balance every few steps while a network trains: its optimiser's averages are rescaled along with the weights."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
balancer = eq.balance.Balancer(model, every=45, optimizer=optimizer)  # and once now

for epoch in range(5):
    for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
        x, y = digits.train.batch(batch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        balancer.step()
    print(f"epoch {epoch + 1}: largest relative deficit {eq.balance.deficit(model).max_relative:.6f}")

x, y = digits.test.batch(torch.arange(len(digits.test)))
print(f"test accuracy {(model(x).argmax(1) == y).double().mean():.3f}")
