"""``sweep.population.*``: one step of a whole population over a step of each of its members in turn.

An I-Norm network, 784-300-300-10 with centred errors, batch 32, plain SGD, a seed and a rate for each member. Both
sides gather batches from images of bytes and shift their light. ``gpu.vs_sequential``: 256 members on one GPU, where a
step is one CUDA graph; skipped where there is none. ``vs_sequential``: 8 members on the CPU, for information: batched
products that are not compiled are no faster there than one by one.

``sweep.inorm_paper.gpu_minutes``: the runs of ``inorm/accuracy --preset paper`` as populations on one GPU, projected
from a tenth of their epochs, with their tests, checkpoints and files, on noise of the size of the paper's data.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Effort, Once, Pair, Side, Skipped

MODEL = "inorm:784-300-300-10,gradnorm=center,bias=inside"
SHARE = 10  # one in so many epochs of the paper's runs is measured
IN_TURN = 4  # members that are really timed one by one; the others take as long


def images(count: int = 4096, tested: int = 128) -> Any:
    """Random images of the size of MNIST's."""
    from equipoise.data import Dataset, Split

    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=g, dtype=torch.uint8)
    split = Split(pixels, torch.randint(0, 10, (count,), generator=g))
    return Dataset("random", split, split.take(torch.arange(tested)), tuple("0123456789"))


def as_many() -> Any:
    """As many of them as Fashion-MNIST has."""
    return images(60_000, 10_000)


def seconds(step: Callable[[], object], device: str, times: int) -> float:
    """The seconds of ``times`` steps, the device's work included."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def sides(count: int, device: str, times: int) -> tuple[Side, Side]:
    """A step of ``count`` members together, and a step of each in turn."""
    from equipoise.population import Population
    from equipoise.train import Machine, Run
    from equipoise.train.loop import Loop
    from equipoise.train.parts import build
    from equipoise.train.progress import Quiet
    from equipoise.train.stop import Stopper

    shared: dict[str, Any] = {"model": MODEL, "data": "benchmarks.populations:images", "batch_size": 32}
    shared |= {"optimizer_options": {"momentum": 0.0}, "perturb": {"shift": 0.75}, "epochs": 10**6, "validation": 0}
    runs = [Run(**shared, seed=seed, lr=0.01 / (1 + seed)) for seed in range(count)]
    machine = Machine(device=device)
    together = Population(runs, machine)

    def loops() -> Iterator[Callable[[], None]]:
        for run in runs[:IN_TURN]:
            loop = Loop(build(run, machine), Path(), machine, progress=Quiet(), stopper=Stopper())
            loop.parts.model.train()
            index = torch.arange(run.batch_size, device=device)

            def step(loop: Loop = loop, index: torch.Tensor = index) -> None:
                loop._one(index, index)
                loop.step += 1

            yield step

    alone = list(loops())
    return (
        lambda: seconds(together.step, device, times) / times,
        lambda: sum(seconds(step, device, times) for step in alone) / times * count / len(alone),
    )


def paper() -> list[Any]:
    """The runs of the I-Norm paper's comparison."""
    from equipoise.papers import load_all
    from equipoise.train import experiments

    load_all()
    return experiments["inorm/accuracy"].preset("paper").runs(0)


def minutes(runs: list[Any], device: str, data: str = "benchmarks.populations:as_many") -> float:
    """The minutes of ``runs`` as populations on ``device``, from those of one ``SHARE``-th of their epochs."""
    from equipoise import sweep
    from equipoise.train import Machine

    short = [dataclasses.replace(run, data=data, epochs=max(1, run.epochs // SHARE)) for run in runs]
    share = sum(run.epochs for run in short) / sum(run.epochs for run in runs)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = sweep.execute(short, Machine(device=device, runs=folder), executor="population")
        spent = time.perf_counter() - start
    broken = [one for one in found if one.status != "finished" and not one.diverged]
    if broken:
        raise RuntimeError(f"{len(broken)} runs are not finished: {broken[0].message}")
    return spent / share / 60


def whole_paper() -> Once:
    """The I-Norm paper's comparison on one GPU."""
    if not torch.cuda.is_available():
        raise Skipped("there is no CUDA device here")
    return Once(lambda: minutes(paper(), "cuda"))


def on_gpu() -> Pair:
    """256 members on one GPU."""
    if not torch.cuda.is_available():
        raise Skipped("there is no CUDA device here")
    return Pair(*sides(256, "cuda", 20), effort=Effort(least=20, most=60))


def on_cpu() -> Pair:
    """8 members on the CPU."""
    return Pair(*sides(8, "cpu", 2), effort=Effort(least=10, most=40))


def cases() -> Iterator[tuple[str, Callable[[], Pair | Once]]]:
    """Every benchmark of this file by name."""
    yield "sweep.population.vs_sequential", on_cpu
    yield "sweep.population.gpu.vs_sequential", on_gpu
    yield "sweep.inorm_paper.gpu_minutes", whole_paper
