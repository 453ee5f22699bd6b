"""How soon a run has learnt: epochs to a share of what it ends with, read from its learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["SHARE", "columns", "epochs_to"]

SHARE = 0.9
_CHANCE = 0.1


def epochs_to(curve: Sequence[float], share: float = SHARE, *, chance: float = _CHANCE) -> float | None:
    """Epochs until a learning curve first reaches ``share`` of its last value, a straight line between epochs.

    ``curve`` has the accuracies after epoch 1, 2, ...; before the first it is at ``chance``. None where that is enough:
    nothing was learnt.

    >>> epochs_to([0.5, 0.8, 1.0]), epochs_to([0.91, 1.0]), epochs_to([0.1, 0.1])
    (2.5, 0.9876543209876543, None)
    """
    wanted = share * curve[-1]
    if wanted <= chance:
        return None
    epoch = next(k for k, value in enumerate(curve) if value >= wanted)
    before = curve[epoch - 1] if epoch else chance
    return epoch + (wanted - before) / (curve[epoch] - before)


def columns(row: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``epochs_to_90``: epochs to 90 % of the run's last accuracy, on held-out images (``epochs_to``)."""
    curve = [float(one["validation_accuracy"]) for one in history if one.get("validation_accuracy") is not None]
    return {"epochs_to_90": epochs_to(curve)} if curve else {}
