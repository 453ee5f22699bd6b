"""Dale's law under any optimiser: weights that start non-negative stay so."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
model = nn.Sequential(nn.Flatten(), eq.nn.ExcitatoryLinear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(eq.nn.param_groups(model, lr=0.003))
eq.nn.enforce(optimizer, model)
rule = eq.rules.make("fa", model)

for batch in eq.data.order(len(digits.train), seed=0, epoch=0).split(16):
    optimizer.zero_grad()
    step = rule.backward(*digits.train.batch(batch))
    optimizer.step()
print(f"loss {step.loss:.3f}, smallest excitatory weight {model[1].weight.min():.3f}")
