"""How far a network's weights are from orthogonal: what target propagation's inverses rest on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from equipoise.functional.orthogonal import distance
from equipoise.measure.catalogue import Measure, layer_weights, measures

__all__ = ["orthogonality"]


@torch.no_grad()
def orthogonality(rule: Any, x: Tensor | None = None) -> dict[str, float]:
    """||A A^T - I||_F of each layer but the first that has as many units as inputs, auxiliary units included.

    A (n, n) is a linear weight, or a convolution's kernels laid flat. 0 for orthogonal weights, whose transpose is the
    inverse; about 2 sqrt(n) times the relative stretching. Through the first layer nothing is ever carried down.
    """
    flat = [(layer, w.detach().flatten(1)) for layer, w in layer_weights(rule, x).items()]
    return {layer: float(distance(a)) for layer, a in flat[1:] if a.shape[0] == a.shape[1]}


def _orthogonality(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    found = orthogonality(rule, x)
    mean = math.fsum(found.values()) / len(found) if found else math.nan
    return {"orthogonality": mean} | {f"orthogonality/{layer}": value for layer, value in found.items()}


_ABOUT = "how far square weights behind the first are from orthogonal, ||A A^T - I||, per layer and their mean"
measures.register("orthogonality")(Measure("orthogonality", _orthogonality, "epoch", _ABOUT))
