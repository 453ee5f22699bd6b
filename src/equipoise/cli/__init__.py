"""The command line: ``equipoise demo | list | run | train | compare | sweep | search | balance | status | ...``."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from equipoise._version import __version__
from equipoise.errors import EquipoiseError, LostRank, unknown_name
from equipoise.user_code import load_plugins

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "every rule side by side on real images, in under two minutes, and a page of it",
    "list": "the rules, models, data sets, experiments and more that exist",
    "run": "an experiment at one of its presets, or one run from a spec file",
    "train": "a model of yours (or a built-in one) with one rule",
    "compare": "a model of yours (or a built-in one) with several rules",
    "sweep": "every combination of a grid, and of shared draws, on a run of yours or an experiment's",
    "search": "settings of an experiment's runs, or of a spec, chosen on held-out images",
    "balance": "the weights of a trained network: same function, smallest norm",
    "status": "how many of a folder's runs are done, under way, stopped, failed, and the time left",
    "report": "the page, and the tables, of what has run",
    "fetch": "download a data set from the Hugging Face hub",
}

# A submodule is an attribute of its package, where one called ``list`` would hide the builtin.
MODULES = {"list": "catalogue"}


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return (
        f"equipoise {__version__}: learning the way cortex might\n\nusage: equipoise COMMAND [options]\n\n"
        + "\n".join(lines)
        + "\n\n`equipoise COMMAND --help` tells the rest; --debug shows tracebacks.\n"
    )


def _import_from_here() -> None:
    """Make the current folder importable, as ``python -m`` does: users name models in it."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


@contextlib.contextmanager
def _ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process during imports, where extension modules would swallow a ``KeyboardInterrupt``."""

    def end(*_: object) -> None:
        os.write(2, b"stopped\n")
        os._exit(130)

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _command(name: str) -> ModuleType:
    module = MODULES.get(name, name)
    return importlib.import_module(f"equipoise.cli.{module}")


def _dispatch(argv: Sequence[str], *, process: bool) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if argv[0] in ("-V", "--version"):
        sys.stdout.write(f"{__version__}\n")
        return 0
    command, *rest = argv
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    _import_from_here()
    with _ends_at_once() if process else contextlib.nullcontext():
        load_plugins()
        module = _command(command)
    return module.main(rest)


def _leads() -> bool:
    """Whether this process speaks: under torchrun, rank 0 alone."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Show nothing of what happens in the block in a process that does not speak."""
    if _leads():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv`` (the process's own if None) and return its exit code.

    0: done. 1: a run failed. 2: bad input, in one line. 130: stopped by Ctrl-C, with everything saved.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    try:
        with _one_voice():
            return _dispatch([word for word in given if word != "--debug"], process=argv is None)
    except EquipoiseError as error:
        if debug:
            raise
        if _leads() or isinstance(error, LostRank):
            sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # of a user's own model or data, or a fault of ours
        if debug:
            raise
        words = " ".join(str(error).split())
        sys.stderr.write(f"error: {type(error).__name__}: {words} (--debug shows where)\n")
        return 1
