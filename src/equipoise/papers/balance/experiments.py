"""Figures 3 to 5 of the paper on synaptic balance, and questions that it leaves open, as experiments."""

from __future__ import annotations

import dataclasses

from equipoise.papers.balance.figures import EXHIBITS
from equipoise.papers.balance.networks import Scale
from equipoise.papers.balance.studies import Convergence, Regularised, Unbalanced
from equipoise.papers.balance.variants import Channels, Mixed, Powers, Range, Starts, Stopping
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "Neural Synaptic Balance"
_OURS = "learning rates, strengths, epochs, initialisation and the kernels of the local layers are ours"
_NONE = "no paper: the balance paper leaves it open"
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
    Experiment(
        name="balance/cnn",
        version=1,
        title="Do the channels of a convolutional network come to balance under weight decay?",
        source=f"{_PAPER}, appendix G.3, says that they do not; it shows no simulation",
        presets={
            "smoke": Channels(("convolutional-digits",), _LOOK),
            "quick": Channels(("convolutional-mnist",), Scale(train_limit=10_000, test_limit=2_000)),
            "paper": Channels(),
        },
    ),
    Experiment(
        name="balance/init",
        version=1,
        title="Is a balanced start a better one?",
        source=f"{_NONE} (its successor balances at the start and reports a gain, at one low learning rate)",
        presets={
            "smoke": Starts(("dense-digits",), scale=_LOOK),
            "quick": Starts(rates=(0.003, 0.03, 0.3), scale=Scale(epochs=2, train_limit=20_000)),
            "paper": Starts(scale=Scale(epochs=10)),
        },
    ),
    Experiment(
        name="balance/stopping",
        version=1,
        title="Does balance tell when to stop?",
        source=f"{_NONE}; that a stationary point of a regularised loss is balanced is its Theorem F.1",
        presets={
            "smoke": Stopping(("dense-digits",), scale=_LOOK),
            "quick": Stopping(scale=Scale(epochs=15, test_limit=2_000)),
            "paper": Stopping(scale=Scale(epochs=60)),
        },
    ),
    Experiment(
        name="balance/range",
        version=1,
        title="The range of trained weights and their rounding to eight bits, before and after balancing",
        source=_NONE,
        presets={
            "smoke": Range(("dense-digits", "convolutional-digits"), scale=_LOOK),
            "quick": Range(samples=2_000, scale=Scale(epochs=2, train_limit=10_000)),
            "paper": Range(),
        },
    ),
    Experiment(
        name="balance/bipu",
        version=1,
        title="Do units of degree two find the balance IN = 2 OUT?",
        source=f"{_PAPER}, appendix E (equation E.6); it shows no simulation",
        presets={
            "smoke": Powers(("squares-digits",), _LOOK),
            "quick": Powers(scale=Scale(epochs=4, test_limit=2_000)),
            "paper": Powers(),
        },
    ),
    Experiment(
        name="balance/mixed",
        version=1,
        title="Under which cost does a network balance that is trained with L1, with L2, or with both?",
        source=f"{_PAPER}, section 3; it shows no simulation",
        presets={
            "smoke": Mixed(("dense-digits",), _LOOK),
            "quick": Mixed(scale=Scale(epochs=6, test_limit=2_000)),
            "paper": Mixed(),
        },
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS[_experiment.name]))
