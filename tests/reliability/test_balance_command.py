"""``equipoise balance``: what it writes, what it says, and what it refuses.

A failure here means a file that computes something else than before, a file lost, or a traceback in a user's face.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from equipoise import balance, models, report, train
from equipoise.balance.methods import methods
from equipoise.cli import balance as command
from equipoise.cli import balanced, checkpoint, main
from equipoise.errors import InputError
from equipoise.train import Run, storage

MODEL = "mlp:12-9-7-4"


def network(**changes: Callable[[Tensor], Tensor]) -> nn.Module:
    """The model of most tests, each named parameter changed (names with _ for the dot)."""
    model = models.make(MODEL, seed=3)
    for name, parameter in model.named_parameters():
        if name.replace(".", "_") in changes:
            parameter.data = changes[name.replace(".", "_")](parameter.data)
    return model


def save(model: nn.Module, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path, {"format": "pt"})
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(network(), tmp_path / "weights.safetensors")


def say(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """The exit code of ``equipoise balance``, and what it wrote to standard output and error."""
    capsys.readouterr()
    try:
        code = main(["balance", *map(str, words)])
    except SystemExit as exit_:  # the flag parser's own way out
        code = int(str(exit_.code))
    return code, *capsys.readouterr()


def output(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """MODEL's output by hand, in float64."""
    w = {name: value.double() for name, value in weights.items()}
    h = (x @ w["1.weight"].T + w["1.bias"]).relu()
    h = (h @ w["3.weight"].T + w["3.bias"]).relu()
    return h @ w["5.weight"].T + w["5.bias"]


def norm(weights: dict[str, Tensor], p: float = 2.0) -> float:
    return sum(float(value.double().abs().pow(p).sum()) for value in weights.values()) ** (1 / p)


def test_the_file_has_the_same_function_names_precision_and_a_smaller_norm(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    code, out, err = say(capsys, file, "--model", MODEL)
    assert (code, err, file.read_bytes()) == (0, "", before)
    target = file.with_name("weights.balanced.safetensors")
    assert out.splitlines()[-1] == f"written: {target}"
    old, new = load_file(file), load_file(target)
    assert {n: (v.shape, v.dtype) for n, v in new.items()} == {n: (v.shape, v.dtype) for n, v in old.items()}
    with safe_open(target, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    x = torch.randn(20, 12, dtype=torch.float64)
    torch.testing.assert_close(output(new, x), output(old, x), rtol=1e-5, atol=1e-6)
    assert norm(new) < norm(old)
    into = new["1.weight"].square().sum(1) + new["1.bias"].square()
    torch.testing.assert_close(into, new["3.weight"].square().sum(0))
    # What it says: both norms, the deficit before, a line for each layer, and how far the output is off.
    said = dict(re.findall(r"^(L2 norm|largest relative deficit) +(.+)$", out, re.MULTILINE))
    assert [float(v) for v in said["L2 norm"].split()] == pytest.approx([norm(old), norm(new)], rel=1e-3)
    wrong, left = map(float, said["largest relative deficit"].split())
    assert wrong == pytest.approx(float(balance.deficit(network()).max_relative), rel=0.1)
    assert left <= 1e-10
    for layer, units in (("1", "9"), ("3", "7")):
        assert re.search(rf"^{layer} +{units} +\d", out, re.MULTILINE)
    exact, rounded = map(float, re.findall(r"(\d\.\de[-+]\d+) in float(?:64|32)", out))
    assert exact < 1e-13
    assert 1e-13 < rounded < 1e-5
    assert "random input" in out


def test_other_costs_reach_the_solver(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = {}
    for name, flags in {"p": ["--p", "1"], "bias": ["--no-bias-cost"], "tied": ["--method", "tied"]}.items():
        target = tmp_path / f"{name}.safetensors"
        assert say(capsys, file, "--model", MODEL, "--out", target, *flags)[0] == 0
        new = load_file(target)
        sides[name] = new
        torch.testing.assert_close(
            output(new, torch.ones(1, 12).double()),
            output(load_file(file), torch.ones(1, 12).double()),
            rtol=1e-5,
            atol=1e-6,
        )
    one, bias, tied = sides["p"], sides["bias"], sides["tied"]
    torch.testing.assert_close(one["1.weight"].abs().sum(1) + one["1.bias"].abs(), one["3.weight"].abs().sum(0))
    torch.testing.assert_close(bias["1.weight"].square().sum(1), bias["3.weight"].square().sum(0))
    ratio = tied["1.weight"] / load_file(file)["1.weight"]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


def test_frozen_parameters_keep_their_bits(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, file, "--model", MODEL, "--frozen", "1.*")[0] == 0
    old, new = load_file(file), load_file(file.with_name("weights.balanced.safetensors"))
    assert torch.equal(new["1.weight"], old["1.weight"])
    assert torch.equal(new["1.bias"], old["1.bias"])
    assert not torch.equal(new["3.weight"], old["3.weight"])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_the_file_stays(kind: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(network().to(kind), tmp_path / "weights.safetensors")
    code, out, _ = say(capsys, file, "--model", MODEL, "--example", "12")
    assert code == 0
    new = load_file(tmp_path / "weights.balanced.safetensors")
    assert {value.dtype for value in new.values()} == {kind}
    x = torch.randn(20, 12, dtype=torch.float64)
    before = output(load_file(file), x)
    error = (output(new, x) - before).norm() / before.norm()
    assert error < 8 * torch.finfo(kind).eps
    assert f"in {str(kind).removeprefix('torch.')}" in out


def test_a_state_dict_inside_a_checkpoint_under_a_wrapper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = {f"module.{name}": value for name, value in network().state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 7}, tmp_path / "last.ckpt")
    assert say(capsys, tmp_path / "last.ckpt", "--model", MODEL, "--out", tmp_path / "new.pt")[0] == 0
    new = torch.load(tmp_path / "new.pt", weights_only=True)
    assert list(new) == list(wrapped)
    x = torch.randn(3, 12, dtype=torch.float64)
    plain = {name.removeprefix("module."): value for name, value in new.items()}
    torch.testing.assert_close(output(plain, x), output(network().state_dict(), x), rtol=1e-5, atol=1e-6)


def test_the_folder_of_a_run_knows_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(model="mlp:64-8-10", epochs=1, train_limit=100)
    assert train.train(run, train.Machine(runs=tmp_path)).status == "finished"
    folder = run.folder(tmp_path)
    assert say(capsys, folder)[0] == 0
    old, new = (load_file(folder / name) for name in ("weights.safetensors", "weights.balanced.safetensors"))
    assert norm(new) < norm(old)


def test_the_demo_balances_what_it_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "DENSE", dataclasses.replace(balanced.DENSE, model="mlp:64-16-12-10", epochs=1))
    residual = Run(model="residual:1x8x8-10", epochs=1, train_limit=64, lr=0.01)
    machine = train.Machine(runs=tmp_path)
    train.train(residual, machine)
    found = balanced.networks({"residual": residual}, tmp_path, machine)
    for one, name in zip(found, ("dense, ReLU", "residual"), strict=True):
        assert one.name == name
        assert one.accuracy[0] == one.accuracy[1]
        assert 0 < one.change < 1e-4
        assert one.report.cost_after < 0.99 * one.report.cost_before
        assert sum(one.norms[1].values()) < sum(one.norms[0].values())
    assert sum(found[0].norms[0].values()) == pytest.approx(found[0].report.cost_before)
    assert sum(found[0].norms[1].values()) == pytest.approx(found[0].report.cost_after)
    (line, _) = balanced.table(found).rows
    assert line[3].value == pytest.approx(found[0].report.cost_before ** 0.5)
    page = report.page("x", [balanced.section(found)])
    assert "A balanced network" in page
    assert "Squared norm of each layer" in page


class Tied(nn.Module):
    """A first and a last layer that share one weight; safetensors files hold such a tensor once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).relu()).relu())


def test_a_tied_tensor_may_stand_in_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tied = Tied()
    state = {name: value for name, value in tied.state_dict().items() if name != "last.weight"}
    save_file(state, tmp_path / "w.safetensors")
    source = checkpoint.read(tmp_path / "w.safetensors")
    torch.manual_seed(1)
    other = Tied()
    checkpoint.fill(other, source)
    assert other.last.weight is other.first.weight
    assert torch.equal(other.first.weight, tied.first.weight)
    assert set(checkpoint.gather(other, source)) == set(state)
    both = dict(tied.state_dict(), **{"last.weight": torch.zeros(5, 5)})
    with pytest.raises(InputError, match=r"first\.weight and last\.weight are one tensor in the model, and differ"):
        checkpoint.fill(Tied(), checkpoint.Checkpoint(tmp_path / "w", both))


def test_a_dry_run_writes_nothing_and_nothing_is_written_over(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(capsys, file, "--model", MODEL, "--dry-run")
    assert (code, [path.name for path in file.parent.iterdir()]) == (0, ["weights.safetensors"])
    assert "nothing is written (--dry-run)" in out
    target = file.with_name("weights.balanced.safetensors")
    target.write_text("mine")
    code, out, err = say(capsys, file, "--model", MODEL)
    assert (code, out, target.read_text()) == (2, "", "mine")
    assert err == f"error: '{target}' exists; choose another --out, or write over it with --force\n"
    assert say(capsys, file, "--model", MODEL, "--force")[0] == 0
    assert load_file(target)


def test_a_write_that_fails_leaves_what_was_there(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = file.with_name("weights.balanced.safetensors")
    target.write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    code, _, err = say(capsys, file, "--model", MODEL, "--force")
    assert (code, target.read_text()) == (1, "mine")
    assert err == f"error: cannot write '{target}': No space left on device; what was there is kept\n"
    assert sorted(path.name for path in file.parent.iterdir()) == [target.name, file.name]


def test_list_names_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    out = capsys.readouterr().out
    for name in methods:
        assert re.search(rf"^  {name} +[A-Z].*\.$", out, re.MULTILINE)


def test_a_long_balance_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    often, seldom = command.Progress(every=0.0), command.Progress(every=1e6)
    for iteration in (1, 2):
        often(iteration, 12.5, 0.03)
        seldom(iteration, 12.5, 0.03)
    assert capsys.readouterr() == (
        "",
        "".join(f"iteration {k}: cost 12.5, largest relative deficit 3.0e-02\n" for k in (1, 2)),
    )


def test_a_change_is_relative_to_the_largest_output() -> None:
    before = [torch.tensor([1.0, -4.0]), torch.tensor([0.5])]
    after = [torch.tensor([1.0, -4.0]), torch.tensor([0.7])]
    assert command.change(before, after) == pytest.approx(0.05)
    assert command.change(before, copy.deepcopy(before)) == 0
    assert command.change(None, after) is None
