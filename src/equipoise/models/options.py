"""Options behind a network's sizes that are more than a choice: ``KEY=VALUE``, each read by its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from equipoise.errors import InputError

__all__ = ["Reader", "built", "read_options", "switch"]

Reader = Callable[[str], Any]
Made = TypeVar("Made")


def switch(text: str) -> bool:
    """yes or no."""
    return {"yes": True, "no": False}[text]


def read_options(text: str, spec: str, readers: Mapping[str, Reader]) -> tuple[str, dict[str, Any]]:
    """The sizes, and the options behind them by name; ``InputError`` for one that no reader knows, or cannot read."""
    sizes, *pairs = text.split(",")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in readers or not value:
            raise InputError(f"model '{spec}': options are key=value, of {', '.join(readers)}")
        try:
            options[key] = readers[key](value)
        except (ValueError, KeyError):
            raise InputError(f"model '{spec}': '{value}' is no value of {key}") from None
    return sizes, options


def built(spec: str, build: Callable[[], Made]) -> Made:
    """What ``build`` makes; a layer's or cell's ``InputError`` gets the model's text in front."""
    try:
        return build()
    except InputError as error:
        if spec in str(error):
            raise
        raise InputError(f"model '{spec}': {error}") from None
