"""Shapes of studies that several papers share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import InputError
from equipoise.train import Run

__all__ = ["SideBySide", "by_rule", "check_by_rule"]


def check_by_rule(rules: Sequence[str], rates: Mapping[str, Any], rule_options: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for rates or options (written rule.option) of a rule that is not among ``rules``."""
    if not rules:
        raise InputError("a comparison needs at least one rule")
    for kind, names in (("rates", list(rates)), ("rule_options", [n.split(".")[0] for n in rule_options])):
        strange = sorted(set(names) - set(rules))
        if strange:
            raise InputError(f"'{kind}' names {', '.join(strange)}, which is not among the rules {', '.join(rules)}")
    for rule, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)):
            raise InputError(f"the rate of '{rule}' is {rate!r}; give a number, as {rule}=0.03")
    if not all("." in name for name in rule_options):
        raise InputError("'rule_options' are written rule.option=value, for example dfa.hidden_scale=100")


def by_rule(rule_options: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """The options of ``rule`` among options of several, written rule.option."""
    return {n.split(".", 1)[1]: v for n, v in rule_options.items() if n.split(".", 1)[0] == rule}


@dataclass(frozen=True)
class SideBySide:
    """Rules side by side: the same network, data, seed and schedule for each.

    Args:
        run: what they share
        rules: their names
        rates: learning rates by rule, where they differ from --lr
        rule_options: options by rule, as dfa.hidden_scale=100
    """

    # Fields of the shared run that this study sets for each of its runs.
    DECIDES = ("rule", "options")

    run: Run = field(default_factory=Run)
    rules: tuple[str, ...] = ("bp", "fa", "dfa", "shallow")
    rates: dict[str, Any] = field(default_factory=dict)
    rule_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_by_rule(self.rules, self.rates, self.rule_options)

    def runs(self, seed: int) -> list[Run]:
        """One run for each rule, with ``seed``."""
        return [
            dataclasses.replace(
                self.run,
                rule=rule,
                seed=seed,
                lr=float(self.rates.get(rule, self.run.lr)),
                options=by_rule(self.rule_options, rule),
            )
            for rule in self.rules
        ]
