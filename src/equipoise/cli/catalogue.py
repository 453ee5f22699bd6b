"""``equipoise list``: what exists, by kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from equipoise.errors import unknown_name

__all__ = ["main"]


def _rules() -> dict[str, str]:
    from equipoise import rules

    return {name: rules.describe(name) for name in rules.names()}


def _models() -> dict[str, str]:
    from equipoise import models

    return {name: models.describe(name) for name in models.names()}


def _data() -> dict[str, str]:
    from equipoise import data

    return {name: data.describe(name) for name in data.names()}


def _experiments() -> dict[str, str]:
    from equipoise.papers import load_all
    from equipoise.train import experiments

    load_all()
    return {n: f"{experiments[n].title} ({', '.join(experiments[n].presets)})" for n in experiments}


def _losses() -> dict[str, str]:
    from equipoise.functional import losses

    return dict.fromkeys(losses, "batch mean")


def _executors() -> dict[str, str]:
    from equipoise.sweep import executors

    return {n: (executors[n].__doc__ or "").strip().splitlines()[0] for n in executors}


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "rules": _rules,
    "models": _models,
    "data": _data,
    "experiments": _experiments,
    "losses": _losses,
    "executors": _executors,
}


def main(argv: Sequence[str]) -> int:
    """Print the parts of the kinds in ``argv`` (all kinds if none)."""
    if any(word in ("-h", "--help") for word in argv):
        sys.stdout.write(f"usage: equipoise list [{' | '.join(KINDS)}]\n")
        return 0
    for kind in argv:
        if kind not in KINDS:
            raise unknown_name("kind of part", kind, KINDS)
    for kind in argv or KINDS:
        parts = KINDS[kind]()
        width = max(map(len, parts), default=0)
        sys.stdout.write(f"{kind}\n")
        for name, text in parts.items():
            sys.stdout.write(f"  {name:<{width}}  {text}\n")
    return 0
