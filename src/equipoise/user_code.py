"""Code from outside: a user's function by its name, ``package.module:function``, and what installed packages add."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any

from equipoise.errors import EquipoiseError, InputError

__all__ = ["call", "load_plugins"]


def load_plugins() -> None:
    """Import what installed packages offer under the entry point group ``equipoise.plugins``."""
    for point in entry_points(group="equipoise.plugins"):
        point.load()


def call(name: str) -> Any:
    """What the function ``package.module:function`` returns, called without arguments.

    Raises ``InputError`` in one line for a name that does not read so, a module or function that does not exist,
    and whatever the import or the call raises.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise InputError(f"'{name}' names no function; write package.module:function")
    try:
        module = importlib.import_module(module_name)
    except EquipoiseError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise InputError(f"{name}: there is no module '{error.name}' on the Python path") from error
        raise InputError(f"importing {module_name} failed: {_line(error)}") from error
    except Exception as error:
        raise InputError(f"importing {module_name} raised {type(error).__name__}: {_line(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{module_name} has no function '{attribute}'{hint}")
    try:
        return function()
    except EquipoiseError:
        raise
    except Exception as error:
        raise InputError(f"{name} raised {type(error).__name__}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """The error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__
