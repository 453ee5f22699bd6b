"""Choosing settings on held-out images: the same number of trials for every method, each an ordinary run.

A trial has its hash and its folder, so it is never computed twice, and the same search resumes. What is chosen by is
the accuracy on the validation split alone: a trial is given a single test image, from which nothing can be learnt.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.errors import InputError, unknown_name
from equipoise.randomness import derive
from equipoise.sweep.executors import execute
from equipoise.sweep.sampling import Choice, Integers, Law, LogUniform, Uniform, draws
from equipoise.sweep.value import changed
from equipoise.train import Machine, Run, Summary

__all__ = ["SAMPLERS", "SEED", "Found", "read_grid", "read_space", "score", "search", "trial"]

SAMPLERS = ("random", "optuna")
HELD_OUT = 0.1
SEED = 1000
_FORMS = "log:LOW..HIGH, uniform:LOW..HIGH, int:LOW..HIGH, or values as a|b|c"
_LAWS: dict[str, Any] = {"log": LogUniform, "uniform": Uniform, "int": Integers}


def read_space(words: Mapping[str, Any]) -> dict[str, Law]:
    """The laws of a table from names to texts: log:1e-4..1 (or log:1e-4:1), uniform:0..1, int:50..500, or sgd|adam.

    >>> read_space({"lr": "log:1e-4:1", "optimizer": "sgd|adam"})["optimizer"]
    Choice(values=('sgd', 'adam'))
    """
    return {name: _law(name, text if isinstance(text, str) else json.dumps(text)) for name, text in words.items()}


def read_grid(words: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of a table from names to texts: sgd,adam, or with bars where a value has commas of its own.

    >>> read_grid({"lr": "0.1,0.01", "model": "mlp:64-9-10,norm=layer|mlp:64-9-10"})
    {'lr': [0.1, 0.01], 'model': ['mlp:64-9-10,norm=layer', 'mlp:64-9-10']}
    """
    found = {}
    for name, text in words.items():
        if isinstance(text, str):
            parts = [part.strip() for part in text.split("|" if "|" in text else ",")]
            found[name] = [_value(part) for part in parts if part]
        else:  # read as JSON before: a list, or a single value
            found[name] = text if isinstance(text, list) else [text]
        if not found[name]:
            raise InputError(f"the grid has no value for '{name}'; write it like {name}=a,b")
    return found


def _law(name: str, text: str) -> Law:
    kind, _, ends = text.partition(":")
    if kind not in _LAWS:
        return Choice(tuple(_value(word) for word in text.split("|")))
    number = int if kind == "int" else float
    try:
        low, high = map(number, ends.replace("..", ":").split(":"))
    except ValueError:
        raise InputError(f"'{name}={text}' is no space; write {_FORMS}") from None
    return _LAWS[kind](low, high)


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(word, word)


def score(summary: Summary) -> float:
    """Accuracy on the validation split after the last epoch; 0 for a run that diverged."""
    return summary.held_out


def trial(run: Run, setting: Mapping[str, Any]) -> Run:
    """The run that tries ``setting``: in ``search/<experiment>``, with held-out images, and one test image.

    Its seed is ``SEED`` further on, so that what is chosen is trained with seeds that had no say in it.

    Raises ``InputError`` for a run that selects its epoch on the test set.
    """
    if run.select == "test":
        raise InputError("select 'test' would let the test set choose; search with select 'last' or 'validation'")
    held = run.validation or HELD_OUT
    ours = {"experiment": f"search/{run.experiment}", "validation": held, "test_limit": 1, "seed": run.seed + SEED}
    plain = dataclasses.replace(run, **ours)
    return changed(plain, setting)


@dataclass(frozen=True)
class Found:
    """What one method's trials gave, in the order tried."""

    method: Run
    settings: tuple[Mapping[str, Any], ...]
    outcomes: tuple[Summary, ...]

    @property
    def place(self) -> int:
        """The trial that scored most, the first of equals."""
        scores = [score(one) for one in self.outcomes]
        return scores.index(max(scores))

    @property
    def winner(self) -> Run:
        """The method's own spec with the winner's values: what it is to be trained with."""
        return changed(self.method, self.settings[self.place])

    @property
    def whole(self) -> bool:
        """Whether every trial has finished or diverged."""
        return all(one.status == "finished" or one.diverged for one in self.outcomes)

    def edges(self, space: Mapping[str, Law]) -> list[str]:
        """The names whose winning value is the lowest or the highest that was tried."""
        told = []
        for name, law in space.items():
            tried = sorted({one[name] for one in self.settings}) if not isinstance(law, Choice) else []
            if len(tried) > 2 and self.settings[self.place][name] in (tried[0], tried[-1]):
                told.append(name)
        return told


def search(
    methods: Sequence[Run],
    space: Mapping[str, Law],
    trials: int,
    *,
    sampler: str = "random",
    seed: int = 0,
    machine: Machine | None = None,
    **how: Any,
) -> list[Found]:
    """Try ``trials`` settings from ``space`` for each of ``methods``; ``how`` are the keywords of ``sweep.execute``.

    "random" draws from ``seed``, the same settings for every method (a paired design). "optuna" lets Optuna's TPE
    propose each method's next setting from its last ones; asked again with the same seed it proposes the same.
    Raises ``InputError`` for an unknown sampler, no trials, an empty space, or names that a run does not have.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if trials < 1 or not space or not methods:
        raise InputError("a search needs a method, a space and at least one trial: --space lr=log:1e-3..1 --trials 16")
    machine = machine if machine is not None else Machine()
    if sampler == "random":
        settings = draws(trials, space, seed=seed)
        runs = [trial(method, one) for method in methods for one in settings]
        outcomes = execute(runs, machine, **how)
        parts = [outcomes[k * trials : (k + 1) * trials] for k in range(len(methods))]
        return [Found(m, tuple(settings), tuple(part)) for m, part in zip(methods, parts, strict=True)]
    from equipoise.sweep.proposals import Proposals

    asked = [Proposals(space, seed=derive(seed, "search", method.hash)) for method in methods]
    tried: list[list[tuple[Mapping[str, Any], Summary]]] = [[] for _ in methods]
    for _ in range(trials):
        settings = [one.ask() for one in asked]
        runs = [trial(method, setting) for method, setting in zip(methods, settings, strict=True)]
        for k, summary in enumerate(execute(runs, machine, **how)):
            tried[k].append((settings[k], summary))
            asked[k].tell(score(summary))
        if any(rows[-1][1].status == "stopped" for rows in tried):
            break
    return [
        Found(method, tuple(s for s, _ in rows), tuple(o for _, o in rows))
        for method, rows in zip(methods, tried, strict=True)
    ]
