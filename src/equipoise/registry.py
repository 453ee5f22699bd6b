"""Named parts: one small mapping for rules, losses, models, datasets, experiments and executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from equipoise.errors import InputError, unknown_name

__all__ = ["Registry", "named"]

Part = TypeVar("Part")


def named(name: str, parts: Mapping[str, Part], kind: str) -> Part:
    """The part ``name`` of a table; ``InputError`` with the nearest known name where there is none."""
    try:
        return parts[name]
    except KeyError:
        raise unknown_name(kind, name, parts) from None


class Registry(Generic[Part]):
    """A mapping from a name to a part, which helps when the name is wrong.

    ``register`` is a decorator; a name taken twice is refused, so that nothing is replaced by accident.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Enter the decorated part under ``name``."""

        def enter(part: Part) -> Part:
            if name in self._parts:
                raise InputError(f"the {self.kind} '{name}' exists already; choose another name")
            self._parts[name] = part
            return part

        return enter

    def remove(self, name: str) -> None:
        """Take ``name`` out again (for tests and notebooks that redefine a part)."""
        self[name]
        del self._parts[name]

    def __getitem__(self, name: str) -> Part:
        return named(name, self._parts, self.kind)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        return len(self._parts)
