"""The networks that the experiments on inhibitory normalisation compare, and the draws of their hyper-parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from equipoise.errors import InputError, unknown_name
from equipoise.papers.picking import MINUS
from equipoise.randomness import generator
from equipoise.registry import named
from equipoise.train import Run

__all__ = [
    "ACCURACY",
    "CONDITIONS",
    "INPUTS",
    "LAMBDAS",
    "Condition",
    "Draw",
    "Scale",
    "condition_of",
    "draws",
    "plain",
]

ACCURACY = "inorm/accuracy"
INPUTS = {"fashion-mnist": "784", "mnist": "784", "digits": "64", "cifar10": "3072"}
LAMBDAS = (1e-5, 1e-4, 1e-3, 1e-1, 1.0)  # and 0.01, the paper's default, which is the condition "inorm" itself


@dataclass(frozen=True)
class Condition:
    """One network: a model's ``kind`` and ``options``, the experiment that trains it, and what a reader calls it.

    ``cells``: the width of the divisive pool as a share of the layer's. ``pepita``: PEPITA trains it, a plain network,
    and its option ``center`` says what of its difference is left.
    """

    kind: str
    options: str
    home: str
    label: str
    cells: float | None = None
    pepita: str = ""

    def model(self, sizes: str) -> str:
        """The text of the model whose layers are ``sizes``, such as 784-300-300-10."""
        options = [self.options] if self.options else []
        if self.cells is not None:
            options.append(f"divisive_pool={max(1, math.floor(self.cells * int(sizes.split('-')[1]) + 1e-9))}")
        return ",".join([f"{self.kind}:{sizes}", *options])

    def trains(self, row: Mapping[str, Any], sizes: str) -> bool:
        """Whether a row, a run with these ``sizes``, is of this condition."""
        given = row.get("options.center") or (row.get("options") or {}).get("center") or "none"
        taught = not self.pepita or (row.get("rule"), given) == ("pepita", self.pepita)
        return row.get("model") == self.model(sizes) and taught


def _inorm(label: str, home: str, *options: str, cells: float | None = None, bias: str = "inside") -> Condition:
    # The program adds the bias to the drive, inside what is divided; the paper's equation leaves it out. Where the
    # input is 0 (an image that was made black) the bias is then divided by sqrt(eps) alone.
    return Condition("inorm", ",".join([f"bias={bias}", *options]), home, label, cells)


def _after(label: str, *options: str) -> Condition:
    return _inorm(f"{label}, bias behind", "inorm/confounds", *options, bias="after")


def _pepita(label: str, center: str, options: str = "") -> Condition:
    return Condition("mlp", options, "inorm/rules", f"PEPITA, {label}", pepita=center)


CONDITIONS: dict[str, Condition] = {
    "ln": Condition("dale", "norm=layer", ACCURACY, "LN"),
    "none": Condition("dale", "", ACCURACY, "no norm"),
    "inorm": _inorm("I-Norm", ACCURACY),
    "center": _inorm("I-Norm + center", ACCURACY, "gradnorm=center"),
    "lateral": _inorm("I-Norm + lateral", ACCURACY, "gradnorm=lateral"),
    "full": _inorm("I-Norm + full", ACCURACY, "gradnorm=full"),
    "e-ln": Condition("layernorm", "", "inorm/layernorm", "LN, E cells only"),
    "subtractive": _inorm("I-Norm, subtractive only", "inorm/moments", "divisive=none"),
    "scale": _inorm("I-Norm + scale", "inorm/components", "gradnorm=scale"),
    "decorrelate": _inorm("I-Norm + decorrelate", "inorm/components", "gradnorm=decorrelate"),
    "lateral-10": _inorm("I-Norm + lateral, 10 pools", "inorm/lateral", "gradnorm=lateral,pools=10"),
    "lateral-exponential": _inorm(
        "I-Norm + lateral, exponential", "inorm/lateral", "gradnorm=lateral,pooling=exponential"
    ),
    "straight": _inorm("straight division", "inorm/confounds", "division=straight"),
    "straight-scale": _inorm("straight division + scale", "inorm/confounds", "gradnorm=scale,division=straight"),
    "straight-center": _inorm("straight division + center", "inorm/confounds", "gradnorm=center,division=straight"),
    "straight-decorrelate": _inorm(
        "straight division + decorrelate", "inorm/confounds", "gradnorm=decorrelate,division=straight"
    ),
    "detachnorm": Condition("dale", "norm=detach", "inorm/confounds", "DetachNorm"),
    "forward": Condition("dale", "norm=forward", "inorm/confounds", f"LN{MINUS} (forward alone)"),
    "backward": Condition("dale", "norm=backward", "inorm/confounds", "LN, backward alone"),
    "through": _inorm("error through frozen inhibition", "inorm/confounds", "detach=none"),
    "through-subtractive": _inorm("error through frozen subtraction", "inorm/confounds", "detach=divisive"),
    "after": _after("I-Norm"),
    "after-center": _after("I-Norm + center", "gradnorm=center"),
    "after-lateral": _after("I-Norm + lateral", "gradnorm=lateral"),
    "after-full": _after("I-Norm + full", "gradnorm=full"),
    "trained-ei": _inorm("I-Norm, W_EI and U_EI trained", "inorm/confounds", "train_ei=yes"),
    "dale-0.1": _inorm("divisive pool >= 0, width 0.1", "inorm/dale", "gradnorm=center,divisive=dale", cells=0.1),
    "dale-0.3": _inorm("divisive pool >= 0, width 0.3", "inorm/dale", "gradnorm=center,divisive=dale", cells=0.3),
    "dale-1": _inorm("divisive pool >= 0, width 1", "inorm/dale", "gradnorm=center,divisive=dale", cells=1.0),
    "signed-0.1": _inorm("divisive pool signed, width 0.1", "inorm/dale", "gradnorm=center", cells=0.1),
    "signed-0.3": _inorm("divisive pool signed, width 0.3", "inorm/dale", "gradnorm=center", cells=0.3),
    "exponential": _inorm("I-Norm, exponential start", "inorm/init", "law=exponential"),
    "exponential-center": _inorm("I-Norm + center, exponential start", "inorm/init", "gradnorm=center,law=exponential"),
    "post": _inorm("I-Norm, loss on rates as printed", "inorm/init", "form=post"),
    "literal": _inorm("I-Norm, eq. 1 as printed", "inorm/init", "divisive=literal"),
    "relu": _pepita("ReLU", "none"),
    "relu-center": _pepita(f"ReLU, h {MINUS} h' centred", "units"),
    "relu-ln": _pepita("LN", "none", "norm=layer"),
    "relu-ln-center": _pepita(f"LN, h {MINUS} h' centred", "units", "norm=layer"),
    **{f"lambda={one:g}": _inorm(f"I-Norm, λ = {one:g}", "inorm/lambda", f"local_weight={one:g}") for one in LAMBDAS},
    **{
        f"center-lambda={one:g}": _inorm(
            f"I-Norm + center, λ = {one:g}", "inorm/lambda", f"gradnorm=center,local_weight={one:g}"
        )
        for one in LAMBDAS
    },
}


@dataclass(frozen=True)
class Draw:
    """One draw of the paper's hyper-parameters: the hidden width, and the rates of W_EE, of W_IE and U_IE, of W_EI."""

    width: int
    exc: float
    wix: float
    wei: float


@dataclass(frozen=True)
class Scale:
    """How much is trained. The paper's own: 30 draws, four ranges, 50 epochs of all images.

    Args:
        data: a data set of images with pixels in [0, 1]
        draws: how many draws of width and learning rates, each shared by all conditions
        upper: draw the three learning rates from the upper half of the paper's ranges, on their logarithmic scale
        ranges: largest shifts of luminance
        epochs: passes over the training set
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
        draw_seed: of the draws
    """

    data: str = "fashion-mnist"
    draws: int = 30
    upper: bool = False
    ranges: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    epochs: int = 50
    train_limit: int | None = None
    test_limit: int | None = None
    draw_seed: int = 0

    def __post_init__(self) -> None:
        if self.data not in INPUTS:
            raise unknown_name("data set of these experiments,", self.data, INPUTS)
        if self.draws < 1:
            raise InputError(f"--draws is {self.draws}; give at least 1")


def draws(count: int, *, seed: int = 0, upper: bool = False) -> list[Draw]:
    """``count`` draws, the first of them the same for every count.

    width ~ U{100..500}; eta_exc ~ logU[1e-3, 1e-1], eta_wix ~ logU[1e-2, 1], eta_wei ~ logU[1e-5, 1e-2], or the upper
    half of these: [1e-2, 1e-1], [1e-1, 1], [10^-3.5, 1e-2]. Source: I-Norm paper, Table 1. Rates are kept to four
    digits, so that a spec is short.
    """
    found = []
    for place in range(count):
        u = torch.rand(4, generator=generator(seed, "inorm draws", place), dtype=torch.float64).tolist()
        rates = []
        for v, (low, high) in zip(u[1:], ((-3, -1), (-2, 0), (-5, -2)), strict=True):
            start = (low + high) / 2 if upper else low
            rates.append(float(f"{10 ** (start + v * (high - start)):.4g}"))
        found.append(Draw(100 + int(u[0] * 401), *rates))
    return found


def plain(name: str, draw: Draw, shift: float, seed: int, scale: Scale, **changes: Any) -> Run:
    """The condition ``name`` at one draw and one range of luminance, with ``changes``."""
    condition = named(name, CONDITIONS, "condition")
    run = Run(
        experiment=condition.home,
        model=condition.model(f"{INPUTS[scale.data]}-{draw.width}-{draw.width}-10"),
        data=scale.data,
        optimizer_options={},
        lr=draw.exc,
        group_rates={"*_ie": draw.wix, "*_ei": draw.wei},
        epochs=scale.epochs,
        batch_size=32,
        validation=0.0,
        perturb={"shift": shift} if shift else {},
        seed=seed,
        train_limit=scale.train_limit,
        test_limit=scale.test_limit,
        measures=["moments", "normalising"],
    )
    if condition.pepita:
        # With the momentum of PEPITA's paper, without which it hardly moves at these rates; nothing is inhibitory.
        given = {"center": condition.pepita} if condition.pepita != "none" else {}
        own = {"rule": "pepita", "optimizer_options": {"momentum": 0.9}, "group_rates": {}, "options": given}
        run = dataclasses.replace(run, **own)
    return dataclasses.replace(run, **changes)


def condition_of(row: Mapping[str, Any]) -> str:
    """The name of the condition whose network a row trained; "" where it is none."""
    sizes = str(row.get("model")).partition(":")[2].partition(",")[0]
    if len(sizes.split("-")) < 3:
        return ""
    return next((name for name, one in CONDITIONS.items() if one.trains(row, sizes)), "")
