"""What PEPITA's switches change, each against the same closed form: normalisers, the released code, injection, timing.

A failure means that an option does something else than its line in the documentation.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules
from pepita_nets import batch, dense, kernels, oracle, written


@pytest.mark.parametrize(("norm", "factor"), [("positions", 1.0), ("sqrt", "root"), ("none", "all")])
def test_kernels_are_normalised_as_asked_and_scaled_by_their_rate(norm: str, factor: float | str) -> None:
    model = kernels(bias=True)
    x, y = batch("kernels")
    mean, *_ = written(model, x, y)
    found, *_ = written(model, x, y, conv_norm=norm, kernel_rate=0.25)
    for layer, positions in (("0", 400), ("3", 16)):
        times = {"root": math.sqrt(positions), "all": positions}.get(factor, 1.0) * 0.25
        for part in ("weight", "bias"):
            torch.testing.assert_close(found[f"{layer}.{part}"], mean[f"{layer}.{part}"] * times)
    torch.testing.assert_close(found["7.weight"], mean["7.weight"])


def test_the_released_dense_code_learns_from_the_second_error_and_masks_twice() -> None:
    model = dense(dropout=0.4)
    x, y = batch("dense")
    released, *_ = written(model, x, y, variant="released")
    modulated, *_ = written(model, x, y, output_error="modulated")
    torch.testing.assert_close(released["7.weight"], modulated["7.weight"])
    for name in ("1.weight", "4.weight"):
        # A masked unit has no update and a kept one 1/keep times as much, once more than the difference itself.
        torch.testing.assert_close(released[name], modulated[name] / 0.6)


def test_the_released_kernels_move_the_other_way_and_once_more_by_the_batch() -> None:
    model = kernels()
    x, y = batch("kernels")
    released, *_ = written(model, x, y, variant="released", output_error="modulated")
    paper, *_ = written(model, x, y)
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(released[name], -paper[name] / len(x))
    torch.testing.assert_close(released["7.weight"], paper["7.weight"])


def test_an_injection_at_a_hidden_layer_teaches_from_there_on() -> None:
    model = dense()
    x, y = batch("dense")
    found, _, rule = written(model, x, y, inject="3")
    assert {n: tuple(f.shape) for n, f in rule.feedback().items()} == {"3": (9, 4)}
    assert found["1.weight"] is None
    upper = nn.Sequential(*list(model)[3:])
    h = model[:3](x).detach()
    expected = oracle(upper, h, y, rule.feedback()["3"], {})
    torch.testing.assert_close(found["3.weight"], expected["0.weight"])
    torch.testing.assert_close(found["5.weight"], expected["2.weight"])
    pure, *_ = rule.gradients(dict(model.named_parameters()), x, y)
    assert not pure["1.weight"].any()


class Heard(nn.Module):
    """Passes its input on, units in reverse, and says when."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        self.order.append("pass")
        return x.flip(-1)


def test_during_the_second_pass_each_layer_is_done_before_the_next_begins() -> None:
    """With an optimiser per layer in the gradients' hooks the weights end as after both passes."""
    x, y = batch("dense")
    ended = {}
    for update in ("after", "during"):
        order: list[str] = []
        model = dense()
        model.insert(3, Heard(order))
        rule = rules.make("pepita", model, example=x, scale=0.5, update=update)
        order.clear()
        for name, p in model.named_parameters():

            def step(p: Tensor, name: str = name, order: list[str] = order) -> None:
                order.append(name)
                p.data.sub_(0.1 * p.grad)

            p.register_post_accumulate_grad_hook(step)
        rule.backward(x, y)
        ended[update] = order, [p.detach() for p in model.parameters()]
    assert ended["during"][0] == ["pass", "1.weight", "pass", "4.weight", "6.weight"]
    assert ended["after"][0] == ["pass", "pass", "1.weight", "4.weight", "6.weight"]
    for a, b in zip(ended["after"][1], ended["during"][1], strict=True):
        torch.testing.assert_close(a, b)


def test_a_layer_that_is_used_twice_gets_both_its_gradients() -> None:
    shared = nn.Linear(6, 6, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(6, 4)).double()
    apart = nn.Sequential(
        nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 4)
    ).double()
    for k in (0, 2, 4):
        apart[k].load_state_dict(model[k].state_dict())
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(5) % 4
    one, two = (rules.make("pepita", m, example=x, scale=0.5) for m in (model, apart))
    one.backward(x, y)
    two.backward(x, y)
    torch.testing.assert_close(shared.weight.grad, apart[0].weight.grad + apart[2].weight.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.Conv2d(2, 4, 4, padding="same", dilation=2),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular"),
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    ],
    ids=str,
)
def test_kernels_of_every_geometry_see_the_patches_that_they_acted_on(layer: nn.Conv2d) -> None:
    """The kernel's gradient is that of <z', h - h'> with z' the layer's own output for the modulated image."""
    x, y = batch("kernels", 5)
    x = x[..., :8, :8].contiguous()
    layer = layer.double()
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).double()
    model(x)
    rule = rules.make("pepita", model, example=x, scale=0.5)
    output = rule.backward(x, y).output
    e = output.softmax(-1) - F.one_hot(y, 4)
    modulated = x + (e @ rule.feedback()["0"].T).reshape(x.shape)
    post = layer(x).relu() - layer(modulated).relu()
    target = (layer(modulated) * post.detach()).sum() / post[:, 0].numel()
    for found, wanted in zip(
        (layer.weight.grad, layer.bias.grad), torch.autograd.grad(target, [layer.weight, layer.bias]), strict=True
    ):
        torch.testing.assert_close(found, wanted)


ODD = {
    "no activation before a view": (nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LazyLinear(5), nn.ReLU()),
    "identity before a view": (nn.Conv2d(2, 3, 3), nn.Identity(), nn.Flatten(), nn.LazyLinear(5), nn.ReLU()),
    "dropout on the input": (nn.Dropout(0.3), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten()),
    "channel dropout behind a pool": (
        nn.Conv2d(2, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Dropout2d(0.5),
        nn.Flatten(),
    ),
    "linear throughout": (nn.Flatten(), nn.LazyLinear(6), nn.LazyLinear(5)),
    "smooth units": (nn.Flatten(), nn.LazyLinear(6), nn.GELU(), nn.LazyLinear(5), nn.Softplus()),
    "unflattened": (
        nn.Flatten(),
        nn.LazyLinear(12),
        nn.Unflatten(1, (3, 2, 2)),
        nn.Conv2d(3, 4, 2),
        nn.ELU(inplace=True),
        nn.Flatten(),
    ),
}


@pytest.mark.parametrize("kind", list(ODD))
@pytest.mark.parametrize("n", [7, 3])
def test_what_the_quick_way_overwrites_is_never_needed_again(kind: str, n: int) -> None:
    """The step, which reuses its tensors, against the pure form, which reuses none; and a modulation that matters."""
    torch.manual_seed(0)
    model = nn.Sequential(*copy.deepcopy(ODD[kind]), nn.LazyLinear(4)).double()
    x, y = torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double(), torch.arange(n) % 4
    model(x)
    rule = rules.make("pepita", model, example=x, scale=0.5)
    noise = rule.draw(x, torch.Generator().manual_seed(2))
    pure, step, _ = rule.gradients(dict(model.named_parameters()), x, y, noise=noise)
    kept = x.clone()
    done = rule.backward(x, y, generator=torch.Generator().manual_seed(2))
    assert torch.equal(x, kept)
    torch.testing.assert_close(done.output, step.output)
    for name, parameter in model.named_parameters():
        assert parameter.grad.any()
        torch.testing.assert_close(parameter.grad, pure[name], rtol=1e-9, atol=1e-12)


class Own(nn.Module):
    """An activation that torch does not have, written as people write it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    "own",
    [lambda x: x.relu(), lambda x: F.relu(x, inplace=True), lambda x: x.clamp_(min=0), nn.Threshold(0.0, 0.0)],
    ids=["function", "in place", "clamp in place", "torch's threshold"],
)
def test_an_activation_of_ones_own_is_an_activation(own) -> None:
    """It acts on units one by one, so a unit's activity is what comes out of it; and it may work in place."""
    x, y = batch("dense")
    plain, *_ = written(dense(dropout=0.4), x, y)
    model = dense(dropout=0.4)
    for k in (2, 5):
        model[k] = own if isinstance(own, nn.Module) else Own(own)
    found, *_ = written(model, x, y)
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient)


def test_labels_that_the_loss_leaves_out_teach_nothing() -> None:
    x, y = batch("dense")
    y[:2] = -100
    for name in ("bp", "fa", "usf", "dfa"):
        model = dense()
        rules.make(name, model, example=x).backward(x, y)
        F.cross_entropy(model(x), y).backward()
        twice = model[-1].weight.grad.clone()
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        torch.testing.assert_close(twice, 2 * model[-1].weight.grad)
