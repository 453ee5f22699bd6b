"""Sweeps: what the driver costs, and worker processes over one process that trains the same runs in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.harness import Once

SECONDS, RUNS = 1.0, 12
CONFIGURATIONS, SAMPLES, TESTED, EPOCHS, BATCH = 24, 12_800, 1000, 2, 32


def overhead() -> float:
    """Driver time per run of one second, as a share: (wall - runs x 1 s) / runs, one worker at a time that sleeps."""
    from equipoise import sweep
    from equipoise.train import Machine, Run

    sleep = ("sh", "-c", f"sleep {SECONDS}")
    sweep.executors.register("benchmark")(partial(sweep.processes, command=sleep))
    try:
        with tempfile.TemporaryDirectory() as folder:
            runs = [Run(seed=seed) for seed in range(RUNS)]
            start = time.perf_counter()
            sweep.execute(runs, Machine(runs=folder), executor="benchmark", workers=1)
            wall = time.perf_counter() - start
    finally:
        sweep.executors.remove("benchmark")
    return (wall - RUNS * SECONDS) / (RUNS * SECONDS)


def images() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Noise of MNIST's shape with random labels, as a data set of a user's."""
    source = torch.Generator().manual_seed(0)
    sizes = (SAMPLES, TESTED)
    x, y = (
        [torch.randint(high, (n, *shape), generator=source, dtype=kind) for n in sizes]
        for high, shape, kind in ((256, (1, 28, 28), torch.uint8), (10, (), torch.int64))
    )
    return (x[0], y[0]), (x[1], y[1])


def configurations() -> list:
    """I-Norm networks at the paper's draws of widths and learning rates, Table 1."""
    from equipoise.papers.inorm.conditions import draws
    from equipoise.train import Run

    return [
        Run(
            model=f"inorm:784-{one.width}-{one.width}-10,bias=inside",
            data="benchmarks.sweep:images",
            lr=min(one.exc, 1e-3),
            optimizer_options={},
            epochs=EPOCHS,
            batch_size=BATCH,
            validation=0.0,
        )
        for one in draws(CONFIGURATIONS)
    ]


def in_turn(runs: list) -> float:
    """Seconds of one process with all of torch's threads: plain modules, autograd, SGD, the same steps and tests."""
    from equipoise import models
    from equipoise.nn import enforce

    (x, y), (tested, _) = images()
    start = time.perf_counter()
    for run in runs:
        model = models.make(run.model, seed=run.seed)
        update = torch.optim.SGD(model.parameters(), lr=run.lr)
        enforce(update, model)
        order = torch.Generator().manual_seed(run.seed)
        for _ in range(EPOCHS):
            for rows in torch.randperm(SAMPLES, generator=order).split(BATCH):
                h, local = x[rows].float().div_(255).flatten(1), 0.0
                for layer in model:
                    if hasattr(layer, "local_loss"):
                        local = local + layer.local_loss(h.detach())
                    h = layer(h)
                (nn.functional.cross_entropy(h, y[rows]) + local).backward()
                update.step()
                update.zero_grad(set_to_none=True)
            with torch.no_grad():
                for part in tested.split(1000):
                    model(part.float().div_(255).flatten(1))
    return time.perf_counter() - start


def processes_vs_sequential() -> float:
    """Seconds of the sweep on two worker processes, the start of Python included, over those of the runs in turn."""
    from equipoise import sweep
    from equipoise.train import Machine

    runs = configurations()
    in_turn(runs[:1])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = sweep.execute(runs, Machine(runs=Path(folder)), executor="processes", workers=2)
        ours = time.perf_counter() - start
    unfinished = [summary for summary in found if summary.status != "finished"]
    if unfinished:
        raise RuntimeError(f"{len(unfinished)} runs are not finished: {unfinished[0].message}")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        return ours / in_turn(runs)
    finally:
        torch.set_num_threads(before)


def cases() -> Iterator[tuple[str, Callable[[], Once]]]:
    """Names, and what prepares each measurement when its turn comes."""
    yield "sweep.overhead", lambda: Once(overhead)
    yield "sweep.processes.vs_sequential", lambda: Once(processes_vs_sequential)
