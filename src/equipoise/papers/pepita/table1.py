"""Table 1 of the PEPITA paper, cell by cell: a column is a network and a data set, a cell a column and a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.papers.studies import by_rule, check_by_rule
from equipoise.registry import named
from equipoise.train import Run

__all__ = ["COLUMNS", "NAME", "RULES", "VERSION", "Column", "Grid", "Scale", "cell", "column_of"]

NAME, VERSION = "pepita/table1", 1
RULES = ("bp", "fa", "dfa", "drtp", "pepita")

# Rules that the paper does not have train at the rate of the one that is most like them; any other at backprop's.
_RATE_OF = {"dfa": "fa", "usf": "fa", "frsf": "fa", "brsf": "fa"}


@dataclass(frozen=True)
class Column:
    """A column of Table 1 with its settings (appendix A, Table 2); ``rates`` are those printed there, by rule.

    options: what follows the model's sizes.
    """

    sizes: str
    data: str
    classes: int
    rates: Mapping[str, float]
    options: str
    batch_size: int
    milestones: tuple[int, ...]

    def model(self, *more: str) -> str:
        """The model's spec, with further options."""
        return ",".join((self.sizes, self.options, *more))


def _dense(sizes: str, data: str, classes: int, milestones: tuple[int, ...], **rates: float) -> Column:
    return Column(sizes, data, classes, rates, "bias=no,init=he_uniform,dropout=0.1", 64, milestones)


def _convolutional(sizes: str, data: str, classes: int, **rates: float) -> Column:
    return Column(sizes, data, classes, rates, "bias=no,init=he_uniform", 100, (10, 30, 50))


# The two on digits are small enough for a test; their rates are ours.
COLUMNS = {
    "fc-mnist": _dense("mlp:784-1024-10", "mnist", 10, (60,), bp=0.1, fa=0.1, drtp=0.01, pepita=0.1),
    "fc-cifar10": _dense("mlp:3072-1024-10", "cifar10", 10, (60, 90), bp=0.01, fa=0.001, drtp=0.001, pepita=0.01),
    "fc-cifar100": _dense("mlp:3072-1024-100", "cifar100", 100, (60, 90), bp=0.01, fa=0.001, drtp=0.001, pepita=0.01),
    "conv-mnist": _convolutional("conv:1x28x28-10", "mnist", 10, bp=0.1, fa=0.1, drtp=0.01, pepita=0.1),
    "conv-cifar10": _convolutional("conv:3x32x32-10", "cifar10", 10, bp=0.01, fa=0.01, drtp=0.01, pepita=0.1),
    "conv-cifar100": _convolutional("conv:3x32x32-100", "cifar100", 100, bp=0.01, fa=0.01, drtp=0.01, pepita=0.1),
    "fc-digits": _dense("mlp:64-100-10", "digits", 10, (60,), bp=0.1, fa=0.1, drtp=0.01, pepita=0.1),
    "conv-digits": _convolutional("conv:1x8x8-10", "digits", 10, bp=0.1, fa=0.1, drtp=0.01, pepita=0.1),
}


def column_of(row: Mapping[str, Any]) -> str:
    """The name of the column that a run, as ``sweep.collect`` gives it, trains: its kind of network and its data."""
    kinds = {"mlp": "fc", "conv": "conv"}
    kind = str(row.get("model")).partition(":")[0]
    return f"{kinds.get(kind, kind)}-{row.get('data')}"


@dataclass(frozen=True)
class Scale:
    """How much is trained; the paper trains everything.

    Args:
        epochs: passes over the training set
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
    """

    epochs: int = 100
    train_limit: int | None = None
    test_limit: int | None = None


def _drtp(column: Column) -> dict[str, Any]:
    """What differs for DRTP: tanh, sigmoid outputs, and the two rates that its authors' one rate r amounts to.

    Their output layer steps by r times the mean of the gradient over samples and outputs; their hidden layers by r
    times its sum over the batch. Our binary cross-entropy is a sum over the outputs and a mean over the batch, so
    that r / C is the rate of the output layer, and the hidden layers' is B * C times that (C classes, B samples).
    """
    return {
        "model": column.model("activation=tanh"),
        "loss": "binary_cross_entropy",
        "lr": column.rates["drtp"] / column.classes,
        "options": {"hidden_scale": float(column.batch_size * column.classes)},
    }


def cell(column: str, rule: str, seed: int, scale: Scale, **changes: Any) -> Run:
    """The run of one cell (section 4.1 and appendix A), with ``changes`` of its fields.

    No validation split, no augmentation, momentum 0.9, the last epoch counts. Angles to backpropagation and norms
    are measured on the way, and for PEPITA on dense networks the product of the weights against F.
    """
    one = named(column, COLUMNS, "column")
    fields: dict[str, Any] = {
        "experiment": NAME,
        "version": VERSION,
        "model": one.model(),
        "data": one.data,
        "rule": rule,
        "lr": one.rates.get(_RATE_OF.get(rule, rule), one.rates["bp"]),
        "scheduler": "multistep",
        "scheduler_options": {"milestones": list(one.milestones), "gamma": 0.1},
        "batch_size": one.batch_size,
        "validation": 0.0,
        "alignment_batch": 500,
        "measures": ["product", "norms"] if rule == "pepita" and one.sizes.startswith("mlp") else ["norms"],
        "seed": seed,
    }
    fields |= dataclasses.asdict(scale)
    if rule == "drtp":
        fields |= _drtp(one)
    return Run(**(fields | changes))


@dataclass(frozen=True)
class Grid:
    """Cells of Table 1: every rule on every column.

    Args:
        columns: fc- or conv- with mnist, cifar10, cifar100 or digits
        rules: their names
        scale: how much is trained
        rates: learning rates by rule, where they differ from the paper's, as fa=0.03
        rule_options: options by rule, as drtp.hidden_scale=100
    """

    columns: tuple[str, ...] = tuple(name for name in COLUMNS if not name.endswith("digits"))
    rules: tuple[str, ...] = RULES
    scale: Scale = field(default_factory=Scale)
    rates: dict[str, Any] = field(default_factory=dict)
    rule_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_by_rule(self.rules, self.rates, self.rule_options)

    def runs(self, seed: int) -> list[Run]:
        """One run for each column and rule."""
        return [self._one(column, rule, seed) for column in self.columns for rule in self.rules]

    def _one(self, column: str, rule: str, seed: int) -> Run:
        run = cell(column, rule, seed, self.scale)
        lr = float(self.rates.get(rule, run.lr))
        return dataclasses.replace(run, lr=lr, options={**run.options, **by_rule(self.rule_options, rule)})
