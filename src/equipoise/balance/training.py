"""Balance in training: balancing every few steps, the exact law of plain SGD, and balance as a signal to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from equipoise.balance.costs import Cost
from equipoise.balance.graph import ScalingGraph, graph
from equipoise.balance.solve import BalanceReport, balance_
from equipoise.balance.sums import UnitSums
from equipoise.errors import InputError

__all__ = ["BalanceStop", "Balancer", "SGDLaw", "sgd_law"]

# What an optimiser keeps, by the power of the gradient that it averages: w -> s w takes g -> g / s.
_FIRST = ("momentum_buffer", "exp_avg", "grad_avg", "exp_inf", "prev")
_SECOND = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")


class Balancer:
    """Balance a model at the start of training, every so many steps, or both, in any loop.

    ::

        balancer = Balancer(model, every=100, optimizer=optimizer)
        for x, y in batches:
            ...
            optimizer.step()
            balancer.step()

    Balancing leaves the function as it is and changes what the next gradient steps do. With w -> s w the gradient
    becomes g / s, so averages of past gradients no longer fit: with ``optimizer`` given and ``moments="rescale"`` those
    of order one (momentum of SGD, ``exp_avg``) are divided by s and those of order two (``exp_avg_sq``,
    ``square_avg``, Adagrad's ``sum``) by s^2, which are the averages that the balanced weights would have had; with
    ``"keep"`` they stay as they are.

    Args:
        model: the network; it is balanced once at construction unless ``at_start`` is false
        every: also after every so many calls of ``step``; 0 for never
        cost, p, method, tol: as for ``balance_``
        example: an input, where the model needs one to be traced
        scaling: a graph of the model that was made before

    Raises ``InputError`` for an ``every`` below 0, other ``moments``, and whatever ``balance_`` refuses.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 0,
        at_start: bool = True,
        cost: Cost | None = None,
        p: float | None = None,
        method: str = "newton",
        tol: float = 1e-10,
        optimizer: torch.optim.Optimizer | None = None,
        moments: Literal["rescale", "keep"] = "rescale",
        example: Any = None,
        scaling: ScalingGraph | None = None,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise InputError(f"every is {every!r}; give a whole number of steps, 0 for none")
        if moments not in ("rescale", "keep"):
            raise InputError(f"moments is {moments!r}; use 'rescale' or 'keep'")
        self.model, self.every, self.optimizer, self.moments = model, every, optimizer, moments
        self._traced = scaling is None
        self._example = example
        self.scaling = scaling if scaling is not None else graph(model, example)
        self._how: dict[str, Any] = {"method": method, "tol": tol}
        if cost is not None:
            self._how["cost"] = cost
        if p is not None:
            self._how["p"] = p
        self.steps = 0
        self.reports: list[BalanceReport] = []
        if at_start:
            self.balance()

    def step(self) -> BalanceReport | None:
        """Count one step of training, and balance if it is time; the report where it was."""
        self.steps += 1
        return self.balance() if self.every and self.steps % self.every == 0 else None

    def balance(self) -> BalanceReport:
        """Balance now, whatever the count; a model that left zeros that its graph relied on is traced again."""
        if self._traced and self.scaling.stale is not None:
            self.scaling = graph(self.model, self._example)
        report = balance_(self.scaling, **self._how)
        if self.optimizer is not None and self.moments == "rescale":
            _rescale_moments_(self.optimizer, self.scaling, report)
        self.reports.append(report)
        return report


@torch.no_grad()
def _rescale_moments_(optimizer: torch.optim.Optimizer, scaling: ScalingGraph, report: BalanceReport) -> None:
    """Divide what ``optimizer`` averages of each gradient by the factor s that its weight was multiplied by.

    s = exp(v[into] - v[out_of]), and 1 at the units that were skipped; averages of squares take s^2.
    """
    v, still = _by_node(scaling, report)
    params = dict(scaling.model.named_parameters())
    for use in scaling.uses:
        exponent = use.exponent(v, still)
        kept = optimizer.state.get(params[use.name], {})
        for name, value in kept.items():
            order = 1 if name in _FIRST else 2 if name in _SECOND else 0
            if name == "momentum_buffer" and "square_avg" in kept:
                order = 0  # RMSprop's: gradients over their own size
            if order and isinstance(value, Tensor):
                value.mul_(torch.exp(-order * exponent).to(value))


def _by_node(scaling: ScalingGraph, report: BalanceReport) -> tuple[Tensor, Tensor]:
    """The log-scale of each node, and whether it depends on a unit that was skipped; both (nodes,)."""
    rows = scaling.rows
    z, left = torch.zeros(rows.free, dtype=torch.float64), torch.zeros(rows.free, dtype=torch.float64)
    skipped = {(one.layer, unit) for one in report.skipped for unit in one.units}
    for group in scaling.units:
        labels, values = rows.label[group.nodes.reshape(-1)].cpu(), report.log_scales[group.name].reshape(-1)
        free = labels > 0
        z[labels[free] - 1] = values[free].to(z)
        gone = torch.tensor([(group.name, unit) in skipped for unit in range(len(labels))], dtype=torch.bool)
        left[labels[free & gone] - 1] = 1.0
    rows = rows.to("cpu")
    return rows.expand(z), rows.expand(left) != 0


def sgd_law(difference: Tensor, gradients: Tensor, *, lr: float, decay: float = 0.0) -> Tensor:
    """What one step of plain SGD makes of the imbalance of each unit, exactly (p = 2).

        D' = (1 - eta wd)^2 D + eta^2 G,   D = |IN|^2 - |OUT|^2,   G = |g_IN|^2 - |g_OUT|^2

    for w' = w - eta (g + wd w) on every weight and bias: the mixed term 2 eta (sum_IN w g - sum_OUT w g) vanishes by
    Euler's identity. Neither momentum nor an adaptive rate obeys it.

    Args:
        difference: D, (units,)
        gradients: G of the loss alone, without the decay, (units,)
        lr: the learning rate eta
        decay: the weight decay wd
    """
    return (1 - lr * decay) ** 2 * difference + lr**2 * gradients


class SGDLaw:
    """The imbalance that the law of plain SGD foretells, kept beside a training and fed with its gradients alone.

    ::

        law = SGDLaw(UnitSums(graph(model)))
        for x, y in batches:
            loss.backward()
            law.step(lr=0.1, decay=1e-3)      # before optimizer.step()

    ``law.difference`` (units,) is then D after the steps so far, as computed from D at the start and the gradients; it
    equals ``UnitSums.weights().difference`` up to rounding.
    """

    def __init__(self, sums: UnitSums) -> None:
        self.sums = sums
        self.difference = sums.weights().difference

    def step(self, *, lr: float, decay: float = 0.0) -> Tensor:
        """Take the gradients that are in ``.grad`` into account and return the new D."""
        self.difference = sgd_law(self.difference, self.sums.gradients().difference, lr=lr, decay=decay)
        return self.difference

    @property
    def deficit(self) -> float:
        """The balance deficit that is foretold, sum over units of D^2."""
        return float(self.difference.square().sum())


class BalanceStop:
    """Stop a regularised training once its network is as balanced as it gets.

    A stationary point of loss + regulariser is balanced, so an imbalance that no longer falls says that training is
    near one, without any held-out data. Call it with a deficit after each epoch, or every few steps::

        stop = BalanceStop(patience=5)
        if stop(sums.weights().share):
            break

    It says yes once a value lies below ``below``, or once the lowest value so far has not been undercut by more than
    the fraction ``change`` of itself for ``patience`` calls in a row. At the start the deficit may rise: the first
    ``warmup`` calls are not judged.

    Raises ``InputError`` where nothing can ever stop it, and for values that are negative or not finite.
    """

    def __init__(
        self, *, below: float | None = None, patience: int | None = 5, change: float = 0.05, warmup: int = 0
    ) -> None:
        if below is None and patience is None:
            raise InputError("neither 'below' nor 'patience' is given; without one of them nothing ever stops")
        if patience is not None and patience < 1:
            raise InputError(f"patience is {patience}; give 1 or more calls, or None")
        if not 0 <= change < 1:
            raise InputError(f"change is {change}; give a fraction in [0, 1)")
        self.below, self.patience, self.change, self.warmup = below, patience, change, warmup
        self.calls, self.waited, self.lowest = 0, 0, math.inf
        self.reason = ""

    def __call__(self, value: float) -> bool:
        """Whether to stop, after the deficit ``value``; once yes, always yes."""
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"the deficit is {value}; it must be finite and not negative")
        self.calls += 1
        if self.reason or self.calls <= self.warmup:
            return bool(self.reason)
        if self.below is not None and value < self.below:
            self.reason = "below"
        elif value < (1 - self.change) * self.lowest:
            self.lowest, self.waited = value, 0
        else:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                self.reason = "plateau"
        return bool(self.reason)

    def first(self, values: Sequence[float]) -> int | None:
        """The place in ``values`` at which a fresh signal of the same settings says yes; None where it never does."""
        fresh = BalanceStop(below=self.below, patience=self.patience, change=self.change, warmup=self.warmup)
        return next((place for place, value in enumerate(values) if fresh(value)), None)
