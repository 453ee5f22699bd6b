"""Spiking networks a frame at a time, copied, loaded and compiled, against one whole sequence in eager mode.

A failure here means that a deployed network computes something other than the one that was trained.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import models
from equipoise import nn as enn

CLOSE: Any = {"rtol": 1e-9, "atol": 1e-10}
NETWORKS = {
    "vgg": "spiking-vgg:2x16x16-3,width=0.1",
    "vgg batch": "spiking-vgg:2x16x16-3,width=0.2,norm=batch",
    "vgg heavy": "spiking-vgg:2x8x8-3,width=0.03,head=heavy,dropout=0.2,onoff=yes",
    "resnet": "spiking-resnet:2x8x8-3,width=0.05",
    "resnet recurrent": "spiking-resnet:2x8x8-3,width=0.05,recurrent=yes",
    "mlp": "spiking-mlp:20-12-9-3,learn=tau",
    "mlp recurrent": "spiking-mlp:20-12-9-3,recurrent=yes",
    "mlp spiking": "spiking-mlp:20-12-9-3,inhibition=spiking",
    "mlp none": "spiking-mlp:20-12-9-3,norm=none,threshold=0.2",
}


def case(name: str, steps: int = 5, encoder: str = "frames") -> tuple[enn.OverTime, Tensor]:
    """A network in float64, started from the frames (B, T, ...) that come with it, in eval mode."""
    text = f"{NETWORKS[name]},steps={steps},encoder={encoder}"
    model = models.make(text).double()
    assert isinstance(model, enn.OverTime)
    shape = [int(n) for n in text.partition(":")[2].partition("-")[0].split("x")]
    source = torch.Generator().manual_seed(1)
    x = torch.rand(12, *([steps] if encoder == "frames" else []), *shape, generator=source, dtype=torch.float64)
    if "norm=" not in text:
        enn.ei_init_(model, x)
    else:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # running statistics are those of this pass
        model(x)
    return model.eval(), x


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frame_at_a_time_is_the_whole_sequence(name: str) -> None:
    model, frames = case(name)
    states, total = None, torch.zeros((), dtype=torch.float64)
    for frame in frames.unbind(1):
        out, states = model.stream(frame, states)
        total = total + out
    whole = model(frames)
    torch.testing.assert_close(total / 5, whole, **CLOSE)
    assert float(whole.detach().std(0).min()) > 0
    # The states matter: frames by themselves, each from rest, give something else.
    alone = torch.stack([model.stream(frame)[0] for frame in frames.unbind(1)]).mean(0)
    assert not torch.allclose(alone, whole, atol=1e-3)


@pytest.mark.parametrize("name", ["vgg", "vgg batch", "resnet", "mlp recurrent"])
def test_copies_and_state_dicts_compute_the_same(name: str) -> None:
    model, x = case(name, encoder="direct")
    fresh = models.make(f"{NETWORKS[name]},steps=5", seed=9).double().eval()
    assert not torch.equal(fresh(x), model(x))
    fresh.load_state_dict(model.state_dict())
    for other in (copy.deepcopy(model), fresh):
        assert torch.equal(other(x), model(x))
    if "norm=" not in NETWORKS[name]:
        assert enn.ei_init_(fresh, x.flip(0)).layers == ()


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.parametrize("name", ["vgg batch", "resnet"])
def test_full_graph_compilation_keeps_the_numbers(name: str) -> None:
    model, x = case(name, encoder="direct")
    torch._dynamo.reset()
    outcomes = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        y = run(x)
        weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
        outcomes.append([y, *torch.autograd.grad((y * weights).sum(), list(model.parameters()))])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
