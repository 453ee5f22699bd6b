"""Train eight networks as one: a rule's pure form under torch.func.vmap."""

import torch
from torch.func import stack_module_state, vmap

import equipoise as eq

digits = eq.data.load("digits")
x, y = digits.train.batch(torch.arange(256))
models = [eq.models.make("mlp:64-64-10", seed=seed) for seed in range(8)]
rule = eq.rules.make("dfa", models[0], example=x)
params, _ = stack_module_state(models)
feedback = [eq.rules.make("dfa", m, example=x, seed=s).feedback() for s, m in enumerate(models)]
stacked = {name: torch.stack([f[name] for f in feedback]) for name in feedback[0]}

member = vmap(lambda p, f: rule.gradients(p, x, y, feedback=f)[:2])
for _ in range(100):
    grads, step = member(params, stacked)
    params = {name: p.detach() - 0.1 * grads[name] for name, p in params.items()}
print("losses of the eight members:", ", ".join(f"{loss:.3f}" for loss in step.loss.tolist()))
