"""Watching: training goes on to the same bits, and the rows say what was true at their step.

A failure here means that looking at a run changes it, or that its curves belong to other steps or batches.
"""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.measure import Measure
from nets import mlp, vector_batch


class Noisy(nn.Module):
    """Noise from torch's global state, which no rule draws beforehand."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


def network(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    if name == "pepita":  # which trains no batch norm, and no noise of the model's own
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    return nn.Sequential(
        *(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), Noisy()),
        *(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),
    )


def rough(rule: rules.Rule, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    """A measure without manners: it trains batch norm, turns flags and draws global numbers."""
    rule.model.train()
    rule.model(x)
    rule.model.eval()
    return {"rough": float(torch.rand(()))}


EVERYTHING = ("angles", "activity", "norms", "product", Measure("rough", rough))


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    return [vector_batch(9 + k) for k in range(steps)]


def trained(name: str, *, every: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor | None], Tensor, list[bool]]:
    """All that training leaves behind after 7 steps, watched or (every = 0) not."""
    model = network(name)
    model[1].eval()  # frozen statistics, where it has any, inside a model in training
    rule = rules.make(name, model, example=batches(1)[0][0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if every:
        measure.watch(rule, every=every, measures=EVERYTHING)
    torch.manual_seed(5)
    for x, y in batches(7):
        optimizer.zero_grad()
        rule.backward(x, y)
        optimizer.step()
    grads = {n: None if p.grad is None else p.grad for n, p in model.named_parameters()}
    return dict(model.state_dict()), grads, torch.get_rng_state(), [m.training for m in model.modules()]


@pytest.mark.parametrize("name", ["bp", "fa", "dfa", "drtp", "pepita"])
@pytest.mark.parametrize("every", [1, 3])
def test_watched_training_goes_on_to_the_same_bits(name: str, every: int) -> None:
    weights, grads, state, flags = trained(name)
    seen_weights, seen_grads, seen_state, seen_flags = trained(name, every=every)
    for key, value in weights.items():
        assert torch.equal(seen_weights[key], value), key
    for key, value in grads.items():
        assert value is not None
        assert torch.equal(seen_grads[key], value), key
    assert torch.equal(seen_state, state)
    assert seen_flags == flags


def test_a_row_holds_what_was_true_before_its_update_on_the_batch_in_training() -> None:
    """Nine steps by hand beside the watch: rows at 0, 4, 8, with the norm before and the loss of that very batch."""
    model = mlp(6, 5, 4)
    rule = rules.make("dfa", model, example=batches(1)[0][0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses, norms, given = [], [], []
    spy = Measure("spy", lambda rule, x, y, generator: given.append((x, y)) or {"n": float(len(x))})
    with measure.watch(rule, every=4, measures=("norms", spy)) as seen:
        for x, y in batches(9):
            optimizer.zero_grad()
            norms.append(float(model[0].weight.detach().double().norm()))
            losses.append(float(rule.backward(x, y).loss))
            optimizer.step()
    assert seen.losses == losses
    assert seen.series("step") == [0, 4, 8]
    assert seen.series("loss") == [losses[0], losses[4], losses[8]]
    assert seen.series("norm/0") == [norms[0], norms[4], norms[8]]
    assert len(set(norms)) == 9
    assert seen.series("n") == [9, 13, 17]
    for k, (x, y) in zip((0, 4, 8), given, strict=True):
        assert torch.equal(x, batches(9)[k][0])
        assert torch.equal(y, batches(9)[k][1])


def test_a_batch_that_is_given_is_the_one_measured() -> None:
    model, fixed = mlp(6, 5, 4), vector_batch(30)
    rule = rules.make("fa", model, example=fixed[0])
    angles = [measure.alignment(rule, *fixed).hidden]
    with measure.watch(rule, measures="angles", batch=fixed) as seen:
        for x, y in batches(3):
            rule.backward(x, y)
    assert seen.series("angle") == angles * 3


def test_watching_ends_with_the_block_even_by_an_error_and_leaves_other_callbacks() -> None:
    rule = rules.make("bp", mlp(6, 5, 4), example=batches(1)[0][0])
    mine: list[int] = []
    rule.callbacks.append(lambda x, y, step: mine.append(len(x)))
    first = measure.watch(rule, measures="norms")
    second = measure.watch(rule, measures="norms")
    with pytest.raises(KeyError), second:
        raise KeyError(rule.backward(*vector_batch()))
    rule.backward(*vector_batch())
    assert (len(first.rows), len(second.rows), len(mine)) == (2, 1, 2)
    first.stop()
    first.stop()
    rule.backward(*vector_batch())
    assert (len(first.rows), len(second.rows), len(mine)) == (2, 1, 3)
    assert len(rule.callbacks) == 1


def test_the_same_masks_are_drawn_for_the_same_step_and_others_for_the_next() -> None:
    x, y = vector_batch(40)
    seen = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        rule = rules.make("fa", model, example=x)
        with measure.watch(rule, measures="angles") as one:
            for _ in range(3):
                rule.backward(x, y)
        seen.append(one.series("angle"))
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3


class Ends:
    """A hook in a graph, which lives as long as the graph does."""

    def __call__(self, gradient: Tensor) -> None: ...


def test_no_graph_is_kept_between_two_rows() -> None:
    rule = rules.make("bp", mlp(6, 5, 4), example=batches(1)[0][0])
    seen = measure.watch(rule, every=100, measures=())
    rule.backward(*vector_batch())
    middle, hook = torch.ones(3, requires_grad=True) * 2, Ends()
    middle.register_hook(hook)
    loss = middle.sum()
    rule.callbacks[0](*vector_batch(), SimpleNamespace(loss=loss))
    graph = weakref.ref(hook)
    del middle, hook, loss
    gc.collect()
    assert graph() is None
    assert seen.losses[1] == 6.0


def test_what_cannot_be_watched_is_refused() -> None:
    x, y = vector_batch()
    rule = rules.make("bp", mlp(6, 5, 4), example=x)
    for every in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"every is {every!r}"):
            measure.watch(rule, every=every)  # pyright: ignore
    with pytest.raises(ValueError, match="unknown measure 'angels'"):
        measure.watch(rule, measures=("norms", "angels"))
    with pytest.raises(ValueError, match="has 5 samples and 4 labels"):
        measure.watch(rule, batch=(x, y[:4]))
    with pytest.raises(ValueError, match="Linear has no list 'callbacks'"):
        measure.watch(nn.Linear(2, 2))
    assert rule.callbacks == []
    seen = measure.watch(rule, measures="norms")
    rule.backward(x, y)
    with pytest.raises(ValueError, match="nothing is named 'angle' in 1 rows; there is: loss, norm/0, norm/2, step"):
        seen.series("angle")
