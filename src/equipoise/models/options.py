"""Options behind a network's sizes that are more than a choice: ``KEY=VALUE``, each read by its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from equipoise.errors import InputError

__all__ = ["Reader", "built", "read_options", "switch", "told"]

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


def told(given: str | int, options: Mapping[str, Any], sizes: str, name: str) -> str:
    """The text of a network by its sizes or its depth alone, which stand for ``sizes``, and options by keyword.

    >>> told(16, {"norm": "batch", "onoff": True}, "3x32x32-10", "spiking-vgg")
    '3x32x32-10,depth=16,norm=batch,onoff=yes'
    """
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InputError(f"model '{name}' is told by a text, as in '{sizes}', or a depth, not by {given!r}")
    words = [given or sizes] if isinstance(given, str) else [sizes, f"depth={given}"]
    said = {True: "yes", False: "no", None: "none"}
    for key, value in options.items():
        words.append(f"{key}={said[value] if value is None or isinstance(value, bool) else value}")
    return ",".join(words)


def built(spec: str, build: Callable[[], Made]) -> Made:
    """What ``build`` makes; a layer's or cell's ``InputError`` gets the model's text in front."""
    try:
        return build()
    except InputError as error:
        if spec in str(error):
            raise
        raise InputError(f"model '{spec}': {error}") from None
