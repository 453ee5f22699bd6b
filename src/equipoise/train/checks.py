"""Field checks that the frozen dataclasses of runs share: types by annotation, JSON values, unknown keys."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from equipoise.errors import InputError

__all__ = ["canonical", "check_fields", "json_value", "known_keys", "load_json", "only_numbers"]


def json_value(value: Any, name: str) -> Any:
    """A copy of ``value`` made of JSON's types alone: tuples become lists, anything else is refused."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"'{name}' is {value}; give a finite number")
        return value
    if isinstance(value, (list, tuple)):
        return [json_value(item, f"{name}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"'{name}' has the key {key!r}; keys must be text")
        return {key: json_value(item, f"{name}.{key}") for key, item in value.items()}
    raise InputError(f"'{name}' holds a {type(value).__name__}; use numbers, text, lists and tables")


def canonical(value: Any) -> str:
    """One text per value: keys sorted, no spaces, whole floats written as integers (1.0 is 1)."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def check_fields(instance: Any) -> None:
    """Check every field of a frozen dataclass against its annotation, and bring it to one form.

    Whole numbers are accepted where a float is expected; a ``bool`` is never a number; tables are copied.
    """
    hints = _hints(type(instance))
    for field in dataclasses.fields(instance):
        value = _fit(getattr(instance, field.name), hints[field.name], field.name)
        object.__setattr__(instance, field.name, value)


def _fit(value: Any, hint: Any, name: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        kinds = [option for option in options if option is not type(None)]
        return _fit(value, next((kind for kind in kinds if type(value) is kind), kinds[0]), name)
    origin = typing.get_origin(hint) or hint
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise InputError(f"'{name}' is {value}; that is too large for a float") from None
    if origin in (dict, list) and isinstance(value, (Mapping, list, tuple)):
        value = json_value(value, name)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise InputError(f"'{name}' is {value!r}; expected {_noun(origin)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"'{name}' is {value}; give a finite number")
    return value


def _noun(kind: type) -> str:
    nouns = {
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "a table",
        list: "a list",
        bool: "true or false",
    }
    return nouns.get(kind, kind.__name__)


def known_keys(given: Iterable[object], known: Iterable[str], *, kind: str) -> None:
    """Refuse keys that do not exist, each with the nearest one that does."""
    names = sorted(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names) or 'none'}"
            raise InputError(f"unknown {kind} '{key}'{hint}")


def only_numbers(table: Mapping[str, Any], *, what: str) -> None:
    """Refuse a table of measurements in which a value is neither a number nor null."""
    for key, value in table.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f"'{key}' of {what} is {value!r}; expected a number")


def load_json(text: str, *, what: str) -> Any:
    """Parse strict JSON (no NaN, no repeated keys), or say in one line why not."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(items)
        if len(table) != len(items):
            names = [key for key, _ in items]
            twice = next(key for key in names if names.count(key) > 1)
            raise InputError(f"{what} gives '{twice}' twice")
        return table

    def constant(name: str) -> Any:
        raise InputError(f"{what} holds {name}; give finite numbers")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON: {error}") from None
