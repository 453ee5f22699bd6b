"""Figures 3 to 5 of the paper on synaptic balance, and questions that it leaves open, as experiments."""

from __future__ import annotations

import dataclasses

from equipoise.papers.balance.figures import EXHIBITS
from equipoise.papers.balance.networks import Scale
from equipoise.papers.balance.studies import Convergence, Regularised, Unbalanced
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "Neural Synaptic Balance"
_OURS = "learning rates, strengths, epochs, initialisation and the kernels of the local layers are ours"
_DIGITS = ("autoencoder-digits", "local-digits")
_LOOK = Scale(epochs=3, trace_every=10)
_SHORT = Scale(epochs=4, train_limit=10_000, test_limit=2_000, trace_every=10)

EXPERIMENTS = (
    Experiment(
        name="balance/regularised",
        version=1,
        title="Does training with a regulariser lead to balance?",
        source=f"{_PAPER}, Figure 3 (it shows L2; L1 was run too); {_OURS}",
        presets={
            "smoke": Regularised(_DIGITS, _LOOK),
            "quick": Regularised(("autoencoder",), _SHORT),
            "paper": Regularised(),
        },
    ),
    Experiment(
        name="balance/unbalanced",
        version=1,
        title="Does plain SGD keep a balanced start balanced?",
        source=f"{_PAPER}, Figure 4; {_OURS}",
        presets={
            "smoke": Unbalanced(_DIGITS, scale=_LOOK),
            "quick": Unbalanced(("autoencoder",), scale=_SHORT),
            "paper": Unbalanced(),
        },
    ),
    Experiment(
        name="balance/convergence",
        version=1,
        title="Does every order of balancing lead to the same weights?",
        source=f"{_PAPER}, Figure 5 (a thousand repeats of random visits, which we order in sweeps over all units)",
        presets={
            "smoke": Convergence(_DIGITS, repeats=(20,), sweeps=5),
            "quick": Convergence(("autoencoder",), repeats=(200,), sweeps=40),
            "paper": Convergence(),
        },
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS[_experiment.name]))
