"""Train with two forward passes and no backward one, and watch the angle to backpropagation on the way."""

import torch
from torch import nn

import equipoise as eq

digits = eq.data.load("digits")
torch.manual_seed(0)
model = nn.Sequential(
    nn.Flatten(), nn.Linear(64, 256, bias=False), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 10, bias=False)
)
for layer in (model[1], model[4]):
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
rule = eq.rules.make("pepita", model)

with eq.measure.watch(rule, every=90, measures=("angles", "product", "activity")) as seen:
    for epoch in range(10):
        for batch in eq.data.order(len(digits.train), seed=0, epoch=epoch).split(32):
            optimizer.zero_grad()
            rule.backward(*digits.train.batch(batch))  # here stood loss.backward()
            optimizer.step()

model.eval()
x, y = digits.test.batch(torch.arange(len(digits.test)))
print(f"test accuracy {(model(x).argmax(1) == y).double().mean():.3f}")
for row in seen.rows:
    print(
        f"step {row['step']:3.0f}: angle of the hidden layer {row['angle/1']:.1f}°, weights against F "
        f"{row['product_angle']:.1f}°, {row['rate/1']:.2f} of the hidden units active"
    )
