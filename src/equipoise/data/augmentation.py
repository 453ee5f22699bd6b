"""Augmentation as a text: operations in their order, each with its number, and what data they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from equipoise.data import augment, colour, warps
from equipoise.errors import InputError, unknown_name

__all__ = ["OPERATIONS", "Augmentation", "Operation"]


@dataclass(frozen=True)
class Operation:
    """One operation by name: its function, the keyword and default of its one number, and the range of that.

    mirrors, turns: what it does to a sample, so that data whose classes that changes can refuse it. On what it works:
    "space" is pictures and frames, "colour" pictures alone, "time" what has frames.
    """

    function: Callable[..., Tensor]
    keyword: str = ""
    default: float = 0.0
    low: float = 0.0
    high: float = float("inf")
    whole: bool = False
    on: str = "space"
    mirrors: bool = False
    turns: bool = False


OPERATIONS: dict[str, Operation] = {
    "crop": Operation(augment.crop, "padding", 4, 0, whole=True),
    "flip": Operation(augment.flip, mirrors=True),
    "crop_flip": Operation(augment.crop_flip, "padding", 4, 0, whole=True, mirrors=True),
    "cutout": Operation(warps.cutout, "chance", 0.5, 0, 1),
    "hole": Operation(warps.hole, "side", 16, 1, whole=True),
    "resized_crop": Operation(warps.resized_crop, "smallest", 0.08, 0.001, 1),
    "jitter": Operation(colour.jitter, "strength", 0.4, 0, 1, on="colour"),
    "roll": Operation(warps.roll, "furthest", 5, 0, whole=True),
    "rotate": Operation(warps.rotate, "degrees", 30, 0, 180, turns=True),
    "temporal_delete": Operation(warps.temporal_delete, "share", 0.25, 0, 1, on="time"),
}


@dataclass(frozen=True)
class Augmentation:
    """What is done to every training batch: ``steps``, in order, each one operation or several to choose from.

    As text: operations joined by +, as ``crop+flip+cutout=0.3``, each with its number behind =. Of operations joined
    by /, as ``roll=5/rotate=30``, each sample gets one, drawn uniformly. ``none`` is no augmentation.
    """

    text: str
    steps: tuple[tuple[tuple[str, float], ...], ...]

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The augmentation that ``text`` describes, None for "none"; ``InputError`` for what it cannot mean."""
        if text == "none":
            return None
        return cls(text, tuple(tuple(_word(each) for each in step.split("/")) for step in text.split("+")))

    def check(self, shape: tuple[int, ...], *, handed: bool = False, upright: bool = False) -> None:
        """Raise ``InputError`` for an operation that samples of ``shape`` cannot take, or that changes their class.

        shape: (C, H, W), (T, C, H, W), or (T, D), which only has time. handed, upright: as in ``Dataset``.
        """
        for name, number in (each for step in self.steps for each in step):
            operation = OPERATIONS[name]
            if handed and operation.mirrors:
                raise InputError(
                    f"augment '{name}' mirrors samples, and these classes tell left from right; leave it out"
                )
            if upright and operation.turns:
                raise InputError(f"augment '{name}' turns samples, and these classes are directions; leave it out")
            fits = {"space": (3, 4), "colour": (3,), "time": (2, 4)}[operation.on]
            needs = {"space": "(C, H, W) or (T, C, H, W)", "colour": "(1 or 3, H, W)", "time": "(T, C, H, W) or (T, D)"}
            if len(shape) not in fits or (operation.on == "colour" and shape[0] not in (1, 3)):
                raise InputError(f"augment '{name}' needs samples {needs[operation.on]}, not {tuple(shape)}")
            if name == "hole" and number > min(shape[-2:]):
                raise InputError(f"augment 'hole={int(number)}' is larger than the pictures, {shape[-2]} x {shape[-1]}")
            if name == "temporal_delete" and max(1, round(number * shape[0])) >= shape[0]:
                raise InputError(f"augment '{name}={number}' leaves none of {shape[0]} frames; give a smaller share")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A batch (B, ...) augmented by numbers from ``generator``; the batch itself stays as it was."""
        for step in self.steps:
            found = [_apply(images, generator, name, number) for name, number in step]
            if len(found) > 1:
                chosen = torch.randint(len(found), (len(images),), generator=generator, device=generator.device)
                rows = torch.arange(len(images), device=images.device)
                images = torch.stack(found)[chosen.to(images.device), rows]
            else:
                images = found[0]
        return images


def _apply(images: Tensor, generator: torch.Generator, name: str, number: float) -> Tensor:
    operation = OPERATIONS[name]
    options: dict[str, Any] = {}
    if operation.keyword:
        options[operation.keyword] = int(number) if operation.whole else number
    return operation.function(images, generator, **options)


def _word(word: str) -> tuple[str, float]:
    """(name, number) of one operation as text."""
    name, given, text = word.partition("=")
    if name == "none":
        raise InputError("augment 'none' stands alone; leave it out of a list of operations")
    if name not in OPERATIONS:
        raise unknown_name("operation of 'augment',", name, ("none", *OPERATIONS))
    operation = OPERATIONS[name]
    if not given:
        return name, operation.default
    if not operation.keyword:
        raise InputError(f"augment '{name}' takes no number; write '{name}', not '{word}'")
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"augment '{word}': '{text}' is no number") from None
    if not operation.low <= number <= min(operation.high, 1e6) or (operation.whole and number != int(number)):
        kind = "a whole number" if operation.whole else "a number"
        top = "up" if operation.high == float("inf") else f"to {operation.high:g}"
        raise InputError(f"augment '{word}': {operation.keyword} is {kind} from {operation.low:g} {top}")
    return name, number
