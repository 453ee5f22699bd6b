"""``equipoise balance``: the same function with the smallest norm, from a weights file to a weights file."""

from __future__ import annotations

import copy
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from equipoise import balance, models, report
from equipoise.balance.examples import candidates, outputs
from equipoise.cli import checkpoint
from equipoise.cli.checkpoint import Checkpoint
from equipoise.cli.outcome import show_table
from equipoise.errors import InputError
from equipoise.train import Run, storage
from equipoise.user_code import call

__all__ = ["main"]

SAMPLES = 4  # random inputs on which the output before is compared with the output after


@dataclass(frozen=True)
class Flags:
    """Balance a model's weights: the same function, the smallest norm.

    Args:
        weights: a .safetensors file, a state dict (.pt), or the folder of a run
        model: the network, as package.module:function or mlp:784-300-10; a run's folder knows its own
        p: the norm to make small, the sum of all |weight|^p
        method: newton, cyclic, parallel, stochastic, or tied (one scale a layer)
        tol: the largest relative deficit to leave in any unit
        out: where to write; WEIGHTS.balanced.safetensors if not given
        example: the shape of one input, as 3x224x224, or package.module:function that returns a batch
        frozen: parameters to leave as they are, by name or pattern, as features.0.*
        no_bias_cost: leave biases out of the norm; they are scaled either way
        dry_run: write nothing
        force: write over a file that exists
    """

    weights: str
    model: str = ""
    p: float = 2.0
    method: str = "newton"
    tol: float = 1e-10
    out: str | None = None
    example: str | None = None
    frozen: tuple[str, ...] = ()
    no_bias_cost: bool = False
    dry_run: bool = False
    force: bool = False


def main(argv: Sequence[str]) -> int:
    """Balance, say what changed, write the file, and return the exit code."""
    flags = _flags(argv)
    source, model = _source(flags)
    target = _target(flags, source.path)
    checkpoint.fill(model, source)
    example = _in_precision_of(model, _example(flags.example))
    scaling = balance.graph(model.eval(), example, frozen=flags.frozen)
    sys.stdout.write(f"{source.path}: {_size(model)}\n{scaling}\n\n")
    # Solved in float64, where the function is kept to its last digits, and rounded once when it is written.
    exact = copy.deepcopy(model).double()
    probe = Probe(model, example)
    before = probe(exact), probe(model)
    begun = time.perf_counter()
    result = balance.balance_(
        dataclasses.replace(scaling, model=exact),
        p=flags.p,
        method=flags.method,
        tol=flags.tol,
        include_bias_cost=not flags.no_bias_cost,
        progress=Progress(),
    )
    seconds = time.perf_counter() - begun
    tensors = checkpoint.gather(exact, source)
    checkpoint.fill(model, Checkpoint(source.path, tensors))
    after = probe(exact), probe(model)
    _show(result, flags.p)
    changes = [change(a, b) for a, b in zip(before, after, strict=True)]
    words = [f"{c:.1e} in {kind}" for c, kind in zip(changes, ("float64", _kind(model)), strict=True) if c is not None]
    sys.stdout.write(
        f"largest relative change of the output on {_what(flags.example)}: {', '.join(words) or 'not measured'}\n"
        f"{flags.method}: {result.iterations} iterations, {result.weight_passes:.1f} passes over the weights, "
        f"{seconds:.2f} s\n"
    )
    if flags.dry_run:
        sys.stdout.write(f"nothing is written (--dry-run); it would be {target}\n")
        return 0
    checkpoint.write(target, tensors, source.metadata)
    sys.stdout.write(f"written: {target}\n")
    return 0


class Progress:
    """A line on standard error every few seconds, so that a long balance shows how far it is."""

    def __init__(self, every: float = 2.0) -> None:
        self.every, self.last = every, time.monotonic()

    def __call__(self, iteration: int, cost: float, deficit: float) -> None:
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            sys.stderr.write(f"iteration {iteration}: cost {cost:.6g}, largest relative deficit {deficit:.1e}\n")
            sys.stderr.flush()


def _flags(argv: Sequence[str]) -> Flags:
    import tyro

    return tyro.cli(
        Flags,
        args=list(argv),
        prog="equipoise balance",
        description="The same function with the smallest norm: equipoise balance WEIGHTS --model MODEL",
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalRequiredArgs),
    )


def _source(flags: Flags) -> tuple[Checkpoint, nn.Module]:
    """The weights, and the model that they are of: the one named, or the one of the run whose folder this is."""
    path, spec, seed = Path(flags.weights), flags.model, 0
    if path.is_dir():
        if not (path / "spec.json").is_file():
            raise InputError(f"'{path}' is no folder of a run; name a file of weights")
        run = Run.from_json(storage.read_text(path / "spec.json"))
        path, spec, seed = path / "weights.safetensors", spec or run.model, run.seed
    if not spec:
        raise InputError("--model is missing: the network of these weights, package.module:function or mlp:784-300-10")
    return checkpoint.read(path), models.make(spec, seed=seed)


def _target(flags: Flags, source: Path) -> Path:
    """Where to write; refused before the work is done where it would fail after it."""
    target = Path(flags.out) if flags.out else source.with_name(f"{source.stem}.balanced.safetensors")
    if target.suffix not in (".safetensors", *checkpoint.PICKLES):
        raise InputError(f"--out '{target}' has an unknown ending; write .safetensors or .pt")
    if not target.parent.is_dir():
        raise InputError(f"--out: there is no folder '{target.parent}'")
    if target.exists() and not (flags.force or flags.dry_run):
        raise InputError(f"'{target}' exists; choose another --out, or write over it with --force")
    return target


def _example(text: str | None) -> Any:
    """A batch as ``--example`` describes it, or None."""
    if text is None:
        return None
    if ":" in text:
        return call(text)
    sizes = text.split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"--example '{text}' does not read as sizes, 3x224x224, or package.module:function")
    return torch.randn(SAMPLES, *map(int, sizes), generator=torch.Generator().manual_seed(0))


def _what(example: str | None) -> str:
    return f"what {example} returns" if example and ":" in example else "random input"


def _size(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()):,} parameters in {_kind(model)}"


def _kind(model: nn.Module) -> str:
    """The precisions of the parameters."""
    return " and ".join(sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}))


class Probe:
    """Random input of the shape that the model takes (or the example's own values), and what comes out."""

    def __init__(self, model: nn.Module, example: Any) -> None:
        self.inputs: tuple[Any, Any] | None = None
        for given in candidates(model, example):
            inputs = tree_map(_drawn, given)
            if self.run(model, inputs) is not None:
                self.inputs = inputs
                return

    def __call__(self, model: nn.Module) -> list[Tensor] | None:
        """The model's outputs in float64; None where it does not run."""
        return None if self.inputs is None else self.run(model, self.inputs)

    def run(self, model: nn.Module, inputs: tuple[Any, Any]) -> list[Tensor] | None:
        args, kwargs = _in_precision_of(model, inputs)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return [value.double() for value in outputs(model(*args, **kwargs)) if _real(value)]
        except Exception:  # of a guess that does not fit, or a model that does without this precision
            return None


def _in_precision_of(model: nn.Module, inputs: Any) -> Any:
    """``inputs`` with every floating-point tensor in the precision of the model's first parameter."""
    kind = next((p.dtype for p in model.parameters()), torch.float32)
    return tree_map(lambda value: value.to(kind) if _real(value) else value, inputs)


def _real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _drawn(value: Any) -> Any:
    """A tensor of values for one that has a shape alone."""
    if not (isinstance(value, Tensor) and value.is_meta):
        return value
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def change(before: Sequence[Tensor] | None, after: Sequence[Tensor] | None) -> float | None:
    """The largest change over all outputs, over the largest output; None where the model could not be run."""
    if not before or not after:
        return None
    size = max(float(a.abs().max()) for a in before)
    difference = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    return difference / size if size else difference


def _show(result: balance.BalanceReport, p: float) -> None:
    """The norm and the deficit, then a line for each layer."""
    number = lambda value, form=".4g": report.Number(value, f"{value:{form}}")  # noqa: E731
    norms = [cost ** (1 / p) for cost in (result.cost_before, result.cost_after)]
    show_table(
        report.Table(
            ["", "before", "after"],
            [
                [f"L{p:g} norm", *map(number, norms)],
                ["largest relative deficit", *(number(d, ".1e") for d in (result.deficit_before, result.deficit))],
            ],
        )
    )
    rows = [
        [
            layer.name or "(the model)",
            layer.units,
            *map(number, (layer.in_before, layer.out_before, layer.in_after, layer.out_after)),
            number(layer.deficit_before, ".1e"),
            number(layer.deficit_after, ".1e"),
            f"{layer.least:.3g} to {layer.most:.3g}",
        ]
        for layer in result.layers
    ]
    columns = ["layer", "units", "IN", "OUT", "IN after", "OUT after", "deficit", "deficit after", "scales"]
    caption = (
        f"IN, OUT: sums of |w|^{p:g} into and out of a layer's units. Deficit: the largest |IN - OUT| / (IN + OUT)."
    )
    show_table(report.Table(columns, rows, caption))
    for entry in result.skipped:
        sys.stdout.write(f"left as it is: {entry}\n")
