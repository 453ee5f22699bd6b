"""The bench harness: a failure here hides a ratio, an interval or a verdict that is not what it says.

Times are made up, so nothing depends on the machine; the oracle is arithmetic.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random

import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import bars, machine, populations, store
from benchmarks.baselines import NETS, bp_step, floor, layers, least_work
from benchmarks.harness import Effort, Once, Pair, Timing, compare, halves_agree, measure, median_interval, timed
from benchmarks.rules import RULES, rule_step

from equipoise import sweep
from equipoise.train import Machine, Run, Summary

QUICK = Effort(least=10, most=60, warm_up=0.0)


def scripted(seconds, log=None, name=""):
    source = itertools.cycle(seconds)

    def side() -> float:
        if log is not None:
            log.append(name)
        return next(source)

    return side


def test_the_ratio_is_the_median_of_paired_ratios() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    timing = compare(Pair(scripted([0.5 * d for d in drift]), scripted(drift), effort=QUICK))
    assert timing.value == timing.low == timing.high == 0.5
    assert timing.rounds == QUICK.least
    assert timing.settled


def test_both_sides_go_first_equally_often() -> None:
    log: list[str] = []
    effort = Effort(least=400, most=400, warm_up=0.0)
    compare(Pair(scripted([1.0], log, "ours"), scripted([1.0], log, "baseline"), effort=effort))
    rounds = list(zip(log[2::2], log[3::2], strict=True))
    assert all(set(pair) == {"ours", "baseline"} for pair in rounds)
    assert 150 < sum(first == "ours" for first, _ in rounds) < 250


def test_rounds_go_on_until_two_halves_agree() -> None:
    slow_start = scripted([*[2.0] * 8, *[1.0] * 1000])
    timing = compare(Pair(slow_start, scripted([1.0]), effort=Effort(least=10, most=200, width=9.0, warm_up=0.0)))
    assert (timing.value, timing.settled) == (1.0, True)
    assert timing.rounds > 14  # seven slow rounds (one warmed up) are outvoted in the first half from then on
    rising = compare(Pair(scripted([1.1**i for i in range(61)]), scripted([1.0]), effort=QUICK))
    assert (rising.rounds, rising.settled) == (QUICK.most, False)


def test_a_wide_interval_is_not_settled() -> None:
    """Halves that agree on a median between 1 and 2 would hold any bar above 1."""
    restless = compare(Pair(scripted([1.0, 1.6, 1.4, 2.0]), scripted([1.0]), effort=QUICK))
    assert (restless.rounds, restless.settled) == (QUICK.most, False)
    steady = compare(Pair(scripted([1.0, 1.04, 1.02]), scripted([1.0]), effort=QUICK))
    assert (steady.rounds, steady.settled) == (QUICK.least, True)


@pytest.mark.parametrize(("second", "agrees"), [(1.049, True), (1.051, False), (1 / 1.051, False)])
def test_halves_agree_within_five_percent(second: float, agrees: bool) -> None:
    assert halves_agree([1.0] * 5 + [second] * 5, 0.05) is agrees


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    source = random.Random(0)
    samples = [[source.expovariate(1.0) for _ in range(41)] for _ in range(2000)]
    intervals = [median_interval(sample) for sample in samples]
    coverage = sum(low <= math.log(2) <= high for low, high in intervals) / len(samples)
    assert 0.94 < coverage < 0.985


def test_the_interval_of_ten_values_is_the_tabulated_one() -> None:
    assert median_interval([float(v) for v in range(1, 11)]) == (2.0, 9.0)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_a_side_reports_seconds_per_step() -> None:
    calls = []
    side = timed(lambda: calls.append(1), block=0.0)
    assert side() >= 0
    assert len(calls) == 3  # one to warm up, one to see how long it takes, one that counts


@pytest.mark.parametrize(
    ("value", "low", "expected"), [(1.2, 1.04, "holds"), (1.04, 1.051, "missed"), (1.0, None, "holds")]
)
def test_a_bar_holds_when_the_better_end_meets_it(value: float, low: float | None, expected: str) -> None:
    timing = Timing(value, low, 2.0, 10, True, 1.0)
    assert bars.verdict("rules.dfa.fc_cifar.vs_bp", timing) == expected
    assert bars.verdict("rules.shallow.fc_cifar.vs_bp", timing) == ""


def test_every_bar_has_a_benchmark() -> None:
    assert set(bars.BARS) <= set(command.all_cases())


def test_results_are_merged_and_stale_names_dropped(tmp_path) -> None:
    first = {n: store.entry(measure(Once(lambda: 2.0)), {"threads": 1}, 0.0) for n in ("a", "b", "gone")}
    store.merge(tmp_path, first, ["a", "b", "gone"])
    store.merge(tmp_path, {"b": {**first["b"], "value": 3.0}}, ["a", "b"])
    assert json.loads((tmp_path / store.BRIEF).read_text()) == {"a": 2.0, "b": 3.0}
    full = json.loads((tmp_path / store.FULL).read_text())
    assert full["a"]["threads"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [store.FULL, store.BRIEF]


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "x.json"
    store.write(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_measures_what_was_named_and_says_when_it_was_not_alone(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "all_cases", lambda: {"demo.seconds": lambda: Once(lambda: 121.0)})
    monkeypatch.setattr(machine, "touch_memory", lambda: None)
    monkeypatch.setattr(machine.Watch, "others", lambda _: 0.5)
    assert command.main(["demo.*", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "missed" in out
    assert "others used 0.50 cores" in out
    with pytest.raises(SystemExit, match=r"no benchmark is called nothing\.\*"):
        command.main(["nothing.*", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "value", "uneven"), [("control.deep.vs_itself", 0.97, True), ("rules.fa", 0.97, False)]
)
def test_a_control_that_is_not_one_is_said_so(name: str, value: float, uneven: bool) -> None:
    text = command.line(name, Timing(value, 0.9, 1.0, 40, True, 1.0), 0.0)
    assert ("two copies of one step differ by 3.0%" in text) is uneven


def test_the_floor_counts_the_products_by_hand() -> None:
    deep, samples = NETS["deep"], 2 * 64
    products = [784 * 1024, 1024 * 1024, 1024 * 1024, 1024 * 10]
    forward, below = samples * sum(products), samples * sum(products[1:])
    assert [layer.flops for layer in layers(deep)] == [samples * p for p in products]
    parameters = sum(p.numel() for p in deep.model().parameters())
    assert least_work(deep, "bp").flops == 2 * forward + below
    assert least_work(deep, "bp").bytes == 6 * 4 * parameters
    assert least_work(deep, "fa") == least_work(deep, "bp")
    assert least_work(deep, "dfa").flops == 2 * forward + samples * 10 * 3 * 1024
    assert least_work(deep, "shallow").flops == forward + samples * products[-1]
    conv = layers(NETS["conv"])
    assert conv[0].flops == 2 * 100 * 32 * 28 * 28 * 3 * 25
    assert conv[1].input_width == 32 * 14 * 14


def test_the_floor_lies_between_nothing_and_backpropagation() -> None:
    rates = machine.Rates(flops=5e10, bytes=1e10)
    for net in NETS.values():
        assert floor(net, "bp", rates) == floor(net, "fa", rates) == 1.0
        assert 0 < floor(net, "shallow", rates) < floor(net, "dfa", rates) <= 1.0


def test_both_sides_of_a_pair_take_the_same_step() -> None:
    """What is timed must be the same work: one step of ``bp`` writes the baseline's weights, bit for bit."""
    net = NETS["conv"]
    plain, ruled = net.model(), net.model()
    bp_step(plain, net.batches())()
    rule_step("bp", ruled, net)()
    for a, b, start in zip(plain.parameters(), ruled.parameters(), net.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not torch.equal(a, start)
        assert b.grad is None


def test_the_timed_rules_exist() -> None:
    from equipoise import rules

    assert set(RULES) <= set(rules.names())


def test_the_whole_paper_is_projected_from_a_tenth_of_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, clock, asked = populations.paper(), [0.0], []
    assert len(runs) == 720

    def execute(short: list[Run], where: Machine, *, executor: str) -> list[Summary]:
        asked.extend(short)
        clock[0] += 90.0
        ends = {"status": "failed", "message": "the loss is not finite at step 3"}
        return [Summary("finished", short[0].hash), *(Summary(**ends, hash=one.hash) for one in short[1:])]

    monkeypatch.setattr(sweep, "execute", execute)
    monkeypatch.setattr(populations.time, "perf_counter", lambda: clock[0])
    assert populations.minutes(runs, "cuda") == pytest.approx(15.0)
    assert {one.epochs for one in asked} == {5}
    assert [dataclasses.replace(one, epochs=50, data=run.data) for one, run in zip(asked, runs, strict=True)] == runs
    monkeypatch.setattr(sweep, "execute", lambda *_, **__: [Summary("failed", "abc", message="no room")])
    with pytest.raises(RuntimeError, match="no room"):
        populations.minutes(runs, "cuda")
