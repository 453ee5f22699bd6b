"""The options of an I-Norm layer, with their types; ``nn.INormLinear`` says what they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

__all__ = ["INormOptions"]


class INormOptions(TypedDict, total=False):
    """See the module."""

    ratio: float
    pool: int | None
    divisive_pool: int | None
    bias: Literal["after", "inside"] | None
    law: str
    detach: str | Iterable[str]
    task_trains: str | Iterable[str]
    divisive: Literal["rms", "dale", "literal"] | None
    train_ei: bool
    gradnorm: str | Iterable[str]
    pools: int
    pooling: str
    local_weight: float
    form: Literal["pre", "post"]
    dale: bool
    division: Literal["exact", "straight"]
    eps: float
    seed: int
