"""Flags from dataclasses: one parser for every command, with KEY=VALUE lists for tables of options."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from equipoise.errors import InputError
from equipoise.train import Machine, parse_duration

__all__ = ["Where", "looking", "option_table", "parse", "take"]

Given = TypeVar("Given")


@dataclass(frozen=True)
class Where:
    """Where, how often and for how long.

    Args:
        runs: the folder of all runs
        seeds: how many seeds, from --seed upwards; results are their mean and 95 % interval
        executor: local, processes (one thread each), or population (runs of one kind as one computation)
        workers: processes (or jobs) at a time; all cores if not given
        executor_options: of slurm: sbatch's own, as partition=gpu account=lab gres=gpu:1 time=4h, and per_job=8,
            requeues=100, grace=90s, setup='module load cuda'
        part: train the k-th of n parts alone, as 2/5; the parts may share a folder
        device: a torch device
        threads: torch's threads
        data_dir: the folder of the data sets; EQUIPOISE_DATA if not given
        time_limit: stop with a checkpoint after, say, 8m
        checkpoint_every: time between checkpoints
        force: train finished runs anew
    """

    runs: str = "runs"
    seeds: int = 1
    executor: str = "local"
    workers: int | None = None
    executor_options: dict[str, Any] = field(default_factory=dict)
    part: str | None = None
    device: str = "cpu"
    threads: int | None = None
    data_dir: str | None = None
    time_limit: str | None = None
    checkpoint_every: str = "20s"
    force: bool = False

    def machine(self) -> Machine:
        """The ``Machine`` that these flags describe."""
        if self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}; give at least 1")
        return Machine(
            device=self.device,
            threads=self.threads,
            data_dir=self.data_dir,
            runs=self.runs,
            time_limit=None if self.time_limit is None else parse_duration(self.time_limit),
            checkpoint_every=parse_duration(self.checkpoint_every),
            force=self.force,
        )


def option_table(words: Sequence[str]) -> dict[str, Any]:
    """A table from KEY=VALUE words; values are JSON where they read as such, else text.

    >>> option_table(["sign=true", "scale=0.5", "law=orthogonal"])
    {'sign': True, 'scale': 0.5, 'law': 'orthogonal'}
    """
    table: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f"'{word}' is no option; write KEY=VALUE")
        try:
            table[key] = json.loads(text)
        except json.JSONDecodeError:
            table[key] = text
    return table


def take(words: list[str], flag: str, default: str = "") -> str:
    """Take ``flag VALUE`` or ``flag=VALUE`` out of ``words``."""
    for k, word in enumerate(words):
        if word == flag:
            if k + 1 == len(words) or words[k + 1].startswith("--"):
                raise InputError(f"{flag} needs a value")
            del words[k]
            return words.pop(k)
        if word.startswith(f"{flag}="):
            return words.pop(k).removeprefix(f"{flag}=")
    return default


def _constructors() -> Any:
    import tyro

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def table_rule(info: Any) -> Any:
        if get_origin(info.type) is not dict and info.type is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="[KEY=VALUE ...]",
            instance_from_str=option_table,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [
                f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()
            ],
        )

    return registry


def _plain(instance: Any, hide: Sequence[str]) -> Any:
    """``instance`` as a dataclass that checks nothing, so that the parser never words our errors.

    The fields in ``hide`` keep their values and have no flag. Of the docstring help shows the arguments alone.
    """
    import tyro

    hints = get_type_hints(type(instance))
    fields = []
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        if dataclasses.is_dataclass(value):
            value = _plain(value, hide)
            fields.append((item.name, type(value), field(default=value)))
        elif item.name in hide:
            fixed = Annotated[hints[item.name], tyro.conf.Fixed, tyro.conf.Suppress]
            fields.append((item.name, fixed, field(default_factory=partial(copy, value))))
        else:
            fields.append((item.name, hints[item.name], field(default_factory=partial(copy, value))))
    kind = make_dataclass(type(instance).__name__, fields, frozen=True, eq=False)
    first, _, arguments = (type(instance).__doc__ or "").partition("Args:")
    kind.__doc__ = first.split("\n\n")[0].replace("``", "") + f"\n\n    Args:{arguments}"
    return kind()


def _checked(plain: Any, like: Any, flags: Collection[str]) -> Any:
    """The values of ``plain`` in the dataclass of ``like``, which checks them.

    Options belong to the part that they were written for: another optimiser does not inherit them.
    """
    values = {item.name: getattr(plain, item.name) for item in dataclasses.fields(plain)}
    for name, value in values.items():
        owner = name.removesuffix("_options")
        if owner != name and values.get(owner) != getattr(like, owner, None) and name not in flags:
            values[name] = {}
        elif dataclasses.is_dataclass(value):
            values[name] = _checked(value, getattr(like, name), flags)
        elif isinstance(value, (tuple, list)):
            values[name] = type(value)(part for word in value for part in _parts(word))
    return type(like)(**values)


def _parts(word: Any) -> list[Any]:
    """The names in ``bp,fa``: a list may be written with commas, with spaces or with both."""
    return [part for part in word.split(",") if part] if isinstance(word, str) else [word]


def parse(
    what: Given, argv: Sequence[str], *, command: str, description: str, hide: Sequence[str] = ()
) -> tuple[Given, Where]:
    """``what`` (a dataclass instance: the defaults) with the flags in ``argv`` applied, and the ``Where`` flags.

    ``hide`` names fields that are not for the user to set here. Bad flags end the process with exit code 2 and the
    nearest known flag; ``--help`` with 0.
    """
    import tyro

    plain = _plain(what, hide)
    job = make_dataclass(
        "Job", [("settings", type(plain), field(default=plain)), ("machine", Where, field(default=Where()))]
    )
    with _constructors():
        given: Any = tyro.cli(
            job,
            args=list(argv),
            prog=f"equipoise {command}",
            description=description,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv}
    return _checked(given.settings, what, flags), given.machine


def looking(flags: type[Given], argv: Sequence[str], *, command: str, description: str) -> tuple[Given, Path]:
    """Flags of a command that looks at the folder ``runs``, which may come first without its name; and the folder."""
    import tyro

    words = ["--runs", *argv] if argv and not argv[0].startswith("-") else list(argv)
    annotated: Any = Annotated[flags, tyro.conf.OmitArgPrefixes]
    given: Any = tyro.cli(annotated, args=words, prog=f"equipoise {command}", description=description)
    root = Path(given.runs)
    if not root.is_dir():
        raise InputError(f"there is no folder '{root}'; name the one that `equipoise run` wrote (--runs)")
    return given, root
