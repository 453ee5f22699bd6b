"""Two gloo ranks: the gradient is the single process's gradient of the joint batch, for batches of any two sizes.

A failure here means that training on several devices learns from wrongly weighted or unsynchronised gradients.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from equipoise import rules
from nets import ORDINARY, grads, pairs, zoo

NETS = {
    "mlp": (3, 2),
    "chain": (4, 1),
    "folded": (3, 2),
    "circuit": (4, 1),
    "local": (5, 0),
    "square": (3, 2),
    "patches": (4, 1),
}


def rank(index: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=2)
    found = {}
    for name, net in pairs(NETS):
        first, _ = NETS[net]
        model, x, y = zoo()[net]
        rule = rules.make(name, model, example=x)
        part = slice(0, first) if index == 0 else slice(first, None)
        rule.backward(x[part], y[part], generator=torch.Generator().manual_seed(1))
        once = grads(model)
        rule.backward(x[part], y[part], generator=torch.Generator().manual_seed(1))
        found[net, name] = once, grads(model)
        model.zero_grad()
        if y[part].numel():
            rule.backward(x[part], y[part], sync=False)
            found[net, name, "own"] = grads(model)
    torch.save(found, Path(out) / f"{index}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("spawn")
        workers = [context.Process(target=rank, args=(k, f"{folder}/store", folder)) for k in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            assert worker.exitcode == 0
        return [torch.load(Path(folder) / f"{k}.pt") for k in range(2)]


@pytest.mark.parametrize(("name", "net"), pairs(NETS))
def test_two_ranks_equal_one_process(ranks: list[dict], net: str, name: str) -> None:
    model, x, y = zoo()[net]
    rule = rules.make(name, model, example=x)
    rule.backward(x, y, generator=torch.Generator().manual_seed(1))
    wanted = grads(model)
    for found in ranks:
        once, twice = found[net, name]
        for n, value in wanted.items():
            if value is None:
                assert once[n] is None
            else:
                torch.testing.assert_close(once[n], value, rtol=1e-6, atol=1e-12)
                torch.testing.assert_close(twice[n], 2 * value, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ORDINARY)
def test_without_sync_a_rank_keeps_its_own_gradient(ranks: list[dict], name: str) -> None:
    model, x, y = zoo()["mlp"]
    rules.make(name, model, example=x).backward(x[:3], y[:3])
    for n, value in grads(model).items():
        own = ranks[0]["mlp", name, "own"][n]
        assert (own is None) == (value is None)
        if value is not None:
            torch.testing.assert_close(own, value)
