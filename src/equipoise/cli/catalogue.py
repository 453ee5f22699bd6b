"""``equipoise list``: what exists, by kind."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence

from equipoise.errors import unknown_name

__all__ = ["main"]


def _rules() -> dict[str, str]:
    from equipoise import rules

    def options(name: str) -> str:
        fields = dataclasses.fields(rules.options(name))
        return " ".join(
            f"{item.name}={item.default if isinstance(item.default, str) else json.dumps(item.default)}"
            for item in fields
        )

    return {name: f"{rules.describe(name)} [--options {options(name)}]" for name in rules.names()}


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


def _laws() -> dict[str, str]:
    from equipoise.functional import laws

    return {name: _first_line(laws[name]) for name in laws}


def _optimizers() -> dict[str, str]:
    from equipoise.train import optimizer_names

    return dict.fromkeys(optimizer_names(), "torch.optim")


def _schedulers() -> dict[str, str]:
    from equipoise.train import scheduler_names

    return {n: "no schedule" if n == "constant" else "torch.optim.lr_scheduler" for n in scheduler_names()}


def _measures() -> dict[str, str]:
    from equipoise.measure import measures

    when = {"epoch": "", "end": " (after the last epoch)"}
    return {n: f"{measures[n].about}{when[measures[n].when]}" for n in measures}


def _methods() -> dict[str, str]:
    import equipoise.balance  # noqa: F401 (it registers them)
    from equipoise.balance.methods import methods

    return {n: _first_line(methods[n]) for n in methods}


def _executors() -> dict[str, str]:
    from equipoise.sweep import executors

    return {n: _first_line(executors[n]) for n in executors}


def _first_line(part: object) -> str:
    return (part.__doc__ or "").strip().partition("\n")[0].replace("``", "")


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "rules": _rules,
    "models": _models,
    "data": _data,
    "experiments": _experiments,
    "losses": _losses,
    "laws": _laws,
    "measures": _measures,
    "optimizers": _optimizers,
    "schedulers": _schedulers,
    "methods": _methods,
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
