"""Changing light and rates by name: a failure here hides images that two networks did not share, light that leaks
between samples or epochs, pixels outside [0, 1], or a weight that learns at another rate than the spec says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import data, models, nn, train
from equipoise.data import LitSplit, Luminance, Split
from equipoise.errors import InputError
from equipoise.randomness import generator
from equipoise.train import Machine, Run
from equipoise.train.loop import Loop
from equipoise.train.parts import build
from equipoise.train.stop import Stopper

MACHINE = Machine(checkpoint_every=1e9)


def images(count: int = 40) -> torch.Tensor:
    return torch.rand(count, 1, 5, 6, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25


def test_light_is_one_shift_and_one_gain_for_each_image() -> None:
    x, law = images(), Luminance(shift=0.25)
    assert torch.allclose(law(x, generator(0)) - x, (law(x, generator(0)) - x).mean((1, 2, 3), keepdim=True), atol=1e-6)
    contrast = Luminance(contrast=0.5)
    drawn = contrast.draw(len(x), generator(0))
    by_hand = torch.stack([i.mean() + g * (i - i.mean()) for i, g in zip(x, drawn[1], strict=True)])
    assert torch.allclose(contrast.apply(x, drawn), by_hand.clamp(0, 1))
    assert torch.equal(law.apply(x, drawn * 0 + torch.tensor([[0.0], [1.0]])), x)


def test_the_law_is_uniform_on_its_range_and_pixels_are_clamped() -> None:
    law = Luminance(shift=0.75, contrast=0.2)
    shift, gain = law.draw(20_000, generator(3))
    for values, centre, half in ((shift, 0.0, 0.75), (gain, 1.0, 0.2)):
        assert float((values - centre).abs().max()) <= half
        assert float(values.mean()) == pytest.approx(centre, abs=4 * half / (3 * 20_000) ** 0.5)
        assert float(values.var()) == pytest.approx(half**2 / 3, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([shift, gain]))[0, 1])) < 0.05
    lit = law(images(400), generator(3))
    assert float(lit.min()) == 0
    assert float(lit.max()) == 1


def test_held_out_images_keep_their_light_however_they_are_asked_for() -> None:
    split = Split((255 * images()).to(torch.uint8), torch.arange(40) % 3)
    lit = Luminance(shift=0.75).fixed(split, "test")
    whole, labels = lit.batch(torch.arange(40))
    index = torch.tensor([7, 3, 3, 39])
    assert torch.equal(lit.batch(index)[0], whole[index])
    assert torch.equal(labels, split.labels)
    assert torch.equal(lit.take(index).batch(torch.arange(4))[0], whole[index])
    assert torch.equal(lit.to("cpu").batch(index)[0], whole[index])
    assert torch.equal(Luminance(shift=0.75).fixed(split, "test").batch(index)[0], whole[index])
    for other in (Luminance(shift=0.75, seed=1).fixed(split, "test"), Luminance(shift=0.75).fixed(split, "validation")):
        assert not torch.equal(other.batch(index)[0], whole[index])
    lit.check_images()
    assert lit.shape == (1, 5, 6)
    assert len(lit) == 40


def loop(tmp_path: Path, **fields: Any) -> Loop:
    run = Run(model="mlp:64-8-10", train_limit=96, test_limit=50, batch_size=32, **fields)
    return Loop(build(run, MACHINE), tmp_path, MACHINE, progress=train.progress.Quiet(), stopper=Stopper(None))


def test_training_sees_new_light_at_every_step_and_testing_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    apply = Luminance.apply

    def spy(self: Luminance, x: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        seen.append(drawn)
        return apply(self, x, drawn)

    monkeypatch.setattr(Luminance, "apply", spy)
    plain = {"perturb": {"shift": 0.5}, "validation": 0.0, "epochs": 2}
    loop(tmp_path, **plain).run()
    first = list(seen)
    seen.clear()
    loop(tmp_path, **plain).run()
    assert all(torch.equal(a, b) for a, b in zip(first, seen, strict=True)), "a run is a function of its spec"
    train_draws = [d for d in first if d.shape[1] == 32]
    test_draws = [d for d in first if d.shape[1] == 50]
    assert len(train_draws) == 6
    assert len(test_draws) == 2
    assert torch.equal(test_draws[0], test_draws[1])
    assert len({round(float(s), 6) for d in train_draws for s in d[0]}) > 180, "fresh for each image and epoch"


def test_seeds_are_compared_on_the_same_test_images() -> None:
    one, other = (build(Run(model="mlp:64-8-10", perturb={"shift": 0.5}, seed=s), MACHINE) for s in (0, 1))
    index = torch.arange(20)
    assert torch.equal(one.batch(one.test, index)[0], other.batch(other.test, index)[0])
    assert isinstance(one.validation, LitSplit)


def test_no_light_leaves_a_run_as_it_was() -> None:
    parts = build(Run(model="mlp:64-8-10", perturb={"shift": 0.0}), MACHINE)
    assert parts.light is None
    assert not isinstance(parts.test, LitSplit)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"perturb": {"shfit": 0.5}}, "shift"),
        ({"perturb": {"shift": 1.5}}, "from 0 to 1"),
        ({"perturb": {"contrast": "much"}}, "from 0 to 1"),
        ({"perturb": {"shift": 0.5, "seed": -1}}, "whole number"),
        ({"perturb": {"shift": 0.5}, "whiten": 0.1}, "use one of the two"),
        ({"group_rates": {"*bias": -1}}, "0 or more"),
        ({"group_rates": {"*bias": "fast"}}, "0 or more"),
    ],
)
def test_wrong_fields_are_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Run(**fields)
    assert "\n" not in str(caught.value)


def test_standardised_images_are_refused() -> None:
    split = Split(torch.randn(9, 4), torch.zeros(9, dtype=torch.int64))
    with pytest.raises(InputError, match="unstandardised"):
        Luminance(shift=0.5).fixed(split, "test")
    assert data.Luminance is Luminance


def test_rates_by_name_reach_their_parameters_and_factors_multiply_them() -> None:
    net = models.make("dann:64-20-20-10", seed=0)
    groups = nn.param_groups(net, 0.1, {"*_ie": 0.02, "5.*": 0.5})
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    found = {name: rate[id(p)] for name, p in net.named_parameters()}
    assert len(found) == len(list(net.parameters()))
    for name, lr in found.items():
        layer, local = name.split(".")
        base = 0.02 if local == "weight_ie" else 0.5 if layer == "5" else 0.1
        factor = getattr(net.get_submodule(layer), "rate_factors", {}).get(local, 1.0)
        assert lr == pytest.approx(base * factor), name
    assert groups[0]["lr"] == 0.1, "the plain rate first"
    with pytest.raises(InputError, match=r"no trainable parameter fits 'W_IE'.*weight_ie"):
        nn.param_groups(net, 0.1, {"W_IE": 0.02})


def test_a_run_trains_at_the_rates_that_its_spec_names() -> None:
    run = Run(model="inorm:64-12-12-10", lr=0.03, group_rates={"*_ie": 0.6, "*_ei": 0.002}, optimizer_options={})
    parts = build(run, MACHINE)
    names = {id(p): n for n, p in parts.model.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in parts.optimizer.param_groups for p in g["params"]}
    assert rates["1.weight_ie"] == rates["3.divisive_ie"] == rates["5.weight_ie"] == 0.6
    assert rates["5.weight_ei"] == 0.002
    assert rates["1.weight_ee"] == rates["1.bias"] == 0.03
    assert "1.weight_ei" not in rates, "frozen in hidden layers"
