"""A deep spiking network without normalisation: from one look at data to digits read, and how often its cells spike."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
torch.manual_seed(0)
hidden = [part for n in (64, 100, 100) for part in (eq.nn.EILinear(n, 100), eq.nn.LIF())]
net = nn.Sequential(nn.Flatten(), *hidden, eq.nn.EILinear(100, 10, readout=True))
model = eq.nn.OverTime(net, steps=4)

x, y = digits.train.batch(torch.arange(256))
report = eq.nn.ei_init_(model, x)
rates = " ".join(f"{rate:.2f}" for rate in report.rates.values())

optimizer = torch.optim.Adam(eq.nn.param_groups(model, lr=0.005), lr=0.005)
eq.nn.enforce(optimizer, model)  # weights stay excitatory or inhibitory
rule = eq.rules.make("bp", model, example=x)
for epoch in range(2):
    for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
        rule.backward(*digits.train.batch(batch))
        optimizer.step()
        optimizer.zero_grad()

x, y = digits.test.batch(torch.arange(len(digits.test)))
with torch.no_grad():
    accuracy = float((model(x).argmax(1) == y).float().mean())
print(f"spikes a step at the start, by layer: {rates}; accuracy after 2 epochs {accuracy:.3f}")
