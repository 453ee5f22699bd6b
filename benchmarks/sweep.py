"""Sweeps: what the driver costs, and worker processes over one process that trains the same runs in turn."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.harness import Once
from equipoise import sweep
from equipoise.train import Machine, Run, Summary, train

SECONDS, STEPS, RUNS = 1.0, 20, 12
CONFIGURATIONS, SAMPLES, TESTED, EPOCHS, BATCH = 24, 12_800, 1000, 2, 32


class Sleeper(nn.Linear):
    """A readout of digits whose training step takes the time that it sleeps, and nearly none of the processor's."""

    def __init__(self) -> None:
        super().__init__(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) == BATCH:
            time.sleep(SECONDS / STEPS)
        return super().forward(x.flatten(1))


class Ends(sweep.progress.Quiet):
    """When each run of a sweep ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def done(self, summary: Summary, count: int, left: float) -> None:
        if summary.status != "finished":
            raise RuntimeError(f"a run is not finished: {summary.message}")
        self.times.append(time.perf_counter())


def overhead() -> float:
    """Driver time per run of one second, as a share: what forked workers, one at a time, add to the runs in turn.

    Both build, train and save each run, and are timed from the end of the first one on, when everything is imported.
    """
    ends, turns = Ends(), Ends()
    model, limit = "benchmarks.sweep:Sleeper", STEPS * BATCH
    plain = Run(model=model, epochs=1, batch_size=BATCH, train_limit=limit, test_limit=100, validation=0.0)
    runs = [dataclasses.replace(plain, seed=seed) for seed in range(RUNS)]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        sweep.execute(runs, Machine(runs=folder), executor="processes", workers=1, progress=ends)
        for count, run in enumerate(runs):
            turns.done(train(run, Machine(runs=other, threads=1)), count, 0.0)
    ours, theirs = (one.times[-1] - one.times[0] for one in (ends, turns))
    return (ours - theirs) / theirs


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
    runs = configurations()
    in_turn(runs[:1])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = sweep.execute(runs, Machine(runs=folder), executor="processes", workers=2)
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
