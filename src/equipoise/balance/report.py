"""What balancing tells: the report of one balance, and the deficit of a network as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["BalanceReport", "Deficit", "Layer", "Skipped"]


@dataclass(frozen=True)
class Layer:
    """The scaled units of one layer: their number, IN and OUT in sum, largest relative deficit, before and after.

    least, most: the smallest and the largest scale exp(v) of a unit.
    """

    name: str
    units: int
    in_before: float
    out_before: float
    in_after: float
    out_after: float
    deficit_before: float
    deficit_after: float
    least: float
    most: float


@dataclass(frozen=True)
class Skipped:
    """Units of one layer that are left as they are, by index, and why."""

    layer: str
    units: tuple[int, ...]
    why: str

    def __str__(self) -> str:
        shown = ", ".join(str(k) for k in self.units[:6]) + (", ..." if len(self.units) > 6 else "")
        return f"{self.layer}[{shown}]: {self.why}"


@dataclass(frozen=True)
class Deficit:
    """How far a network is from balance.

    total: sum over units of (IN - OUT)^2, the paper's deficit. max_relative: max |IN - OUT| / (IN + OUT), in [0, 1].
    per_class: the relative deficit of each unit by layer, positive where IN is larger, 0 for what is not scaled.
    cost: the network's cost. IN and OUT are costs for one Lp, and sums of (p / largest p) a |w|^p for a mixture.
    """

    total: float
    max_relative: float
    cost: float
    per_class: Mapping[str, Tensor] = field(repr=False)
    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"cost {self.cost:.6g}, largest relative deficit {self.max_relative:.3g}, total deficit {self.total:.3g}"
        ]
        width = max((len(name) for name in self.per_class), default=0)
        for name, relative in self.per_class.items():
            worst = float(relative.abs().max()) if relative.numel() else 0.0
            lines.append(f"  {name:{width}}  {relative.numel():6} units  {worst:.3g}")
        return "\n".join([*lines, *(f"  skipped {entry}" for entry in self.skipped)])


@dataclass(frozen=True)
class BalanceReport:
    """What ``balance_`` did.

    cost_before, cost_after: the network's cost. deficit_before, deficit: the largest relative deficit, the latter at
    the solution, before it is rounded to the weights' dtype. log_scales: v of every unit by layer.
    """

    method: str
    cost: str
    cost_before: float
    cost_after: float
    deficit_before: float
    deficit: float
    iterations: int
    weight_passes: float
    log_scales: Mapping[str, Tensor] = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False, default=())
    skipped: tuple[Skipped, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any weight was scaled; a network that was balanced already stays as it is, bit by bit."""
        return any(bool((v != 0).any()) for v in self.log_scales.values())

    def __str__(self) -> str:
        share = 1 - self.cost_after / self.cost_before if self.cost_before else 0.0
        lines = [
            f"{self.cost}: {self.cost_before:.6g} -> {self.cost_after:.6g} ({share:.1%} less)",
            f"largest relative deficit: {self.deficit_before:.3g} -> {self.deficit:.3g}",
            f"{self.method}: {self.iterations} iterations, {self.weight_passes:.1f} weight passes",
        ]
        if self.layers:
            width = max(5, *(len(layer.name) for layer in self.layers))
            lines.append(
                f"{'layer':{width}} {'units':>6} {'IN before':>10} {'OUT before':>10} {'IN after':>10}"
                f" {'OUT after':>10} {'deficit before':>14} {'after':>8} {'scales':>17}"
            )
            for x in self.layers:
                lines.append(
                    f"{x.name:{width}} {x.units:6} {x.in_before:10.4g} {x.out_before:10.4g} {x.in_after:10.4g}"
                    f" {x.out_after:10.4g} {x.deficit_before:14.2g} {x.deficit_after:8.1g}"
                    f" {f'{x.least:.3g} to {x.most:.3g}':>17}"
                )
        return "\n".join([*lines, *(f"skipped {entry}" for entry in self.skipped)])
