"""What the tests of the scaling graph share: a model's output after a rescaling drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.balance.graph import ScalingGraph, graph

__all__ = ["Net", "draw", "exponents", "free", "leaves", "rescaled", "unchanged"]


class Net(nn.Module):
    """A forward pass written as a function of the module and its input."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64)


def exponents(made: ScalingGraph, z: Tensor) -> dict[str, Tensor]:
    """For each parameter with a use, the exponent of every element: v[into] - v[out_of], v = N z."""
    v = made.rows.expand(z)
    shapes = dict(made.model.named_parameters())
    return {use.name: (v[use.into] - v[use.out_of]).expand(shapes[use.name].shape) for use in made.uses}


def rescaled(made: ScalingGraph, z: Tensor) -> dict[str, Tensor]:
    """Every parameter after the rescaling z; a tied one under its first name."""
    held = {name: value.detach().clone() for name, value in made.model.named_parameters()}
    for name, power in exponents(made, z).items():
        held[name] = held[name] * power.exp().to(held[name].dtype)
    return held


def leaves(value: Any) -> list[Tensor]:
    """The tensors in a model's output."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in leaves(one)]


def unchanged(model: nn.Module, *inputs: Tensor, seed: int = 0, made: ScalingGraph | None = None, width: float = 0.7):
    """The model's graph, after checking that a random rescaling leaves its output as it is, to 1e-12 relative."""
    made = made if made is not None else graph(model, inputs)
    generator = torch.Generator().manual_seed(seed)
    z = width * torch.randn(made.rows.free, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = leaves(model(*inputs))
        kept = {name: value.detach().clone() for name, value in model.named_parameters()}
        new = rescaled(made, z)
        moved = 0
        for name, value in model.named_parameters():
            moved += int((value != new[name]).sum())
            value.copy_(new[name])
        after = leaves(model(*inputs))
        for name, value in model.named_parameters():
            value.copy_(kept[name])
    assert moved or not made.rows.free
    for a, b in zip(before, after, strict=True):
        assert a.isfinite().all()
        assert (a - b).abs().max() <= 1e-12 * a.abs().max(), f"the output moved by {(a - b).abs().max()}"
    return made


def free(model: nn.Module, *inputs: Tensor) -> int:
    """The number of free log-scales, the function's preservation checked."""
    return unchanged(model, *inputs).scalable
