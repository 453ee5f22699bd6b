"""Specs: a failure here hides two runs that share a folder, or one run that is trained twice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import InputError
from equipoise.train import Machine, Run, experiments, parse_duration
from equipoise.train.experiments import Experiment

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
values = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "experiment": st.from_regex(r"[a-z]{1,5}(/[a-z0-9]{1,5})?", fullmatch=True),
        "version": st.integers(1, 9),
        "model": text,
        "data": text,
        "rule": text,
        "options": st.dictionaries(text, values, max_size=3),
        "lr": st.floats(0, 1e3),
        "optimizer": st.sampled_from(["sgd", "SGD"]),
        "optimizer_options": st.sampled_from([{}, {"momentum": 0.5}, {"weight_decay": 1e-4, "nesterov": True}]),
        "scheduler_options": st.just({}),
        "epochs": st.integers(1, 10**6),
        "batch_size": st.integers(1, 10**4),
        "validation": st.floats(0, 0.9),
        "augment": st.sampled_from(["none", "flip", "crop_flip"]),
        "precision": st.sampled_from(["float32", "float64", "bfloat16"]),
        "clip_norm": st.none() | st.floats(1e-6, 1e3),
        "seed": st.integers(0, 2**63 - 1),
        "train_limit": st.none() | st.integers(1, 10**6),
        "select": st.sampled_from(["last", "test"]),
        "alignment_batch": st.integers(0, 999),
        "measures": st.lists(st.sampled_from(["norms", "product", "mine"]), unique=True),
        "measure_batch": st.integers(1, 999),
        "preset": text,
    },
)

# One other value for every field that decides the weights.
CHANGED: dict[str, Any] = {
    "experiment": "other",
    "version": 2,
    "model": "mlp:64-10",
    "data": "mnist",
    "rule": "fa",
    "options": {"scale": 2.0},
    "loss": "mse",
    "optimizer": "rmsprop",
    "lr": 0.2,
    "optimizer_options": {},
    "scheduler": "exponential",
    "scheduler_options": {"gamma": 0.5},
    "epochs": 11,
    "batch_size": 65,
    "validation": 0.2,
    "augment": "flip",
    "precision": "float64",
    "clip_norm": 1.0,
    "seed": 1,
    "train_limit": 100,
    "test_limit": 100,
    "select": "test",
    "alignment_batch": 8,
    "measures": ["norms"],
    "measure_batch": 8,
    "measure_every": 3,
    "train_set": True,
    "top_k": 5,
    "init_batch": 64,
    "whiten": 0.1,
    "perturb": {"shift": 0.5},
    "group_rates": {"*bias": 0.01},
    "decay": {"l2": 0.001},
    "balance_start": "norms",
    "balance_every": 7,
    "balance_p": 1.0,
    "balance_repeats": 5,
    "trace_every": 9,
}


@given(specs)
def test_json_brings_the_same_run_back(fields: dict[str, Any]) -> None:
    run = Run(**fields)
    again = Run.from_json(run.to_json())
    assert again == run
    assert again.hash == run.hash
    assert hash(again) == hash(run)


@given(specs, st.randoms(use_true_random=False), text)
def test_the_hash_ignores_the_order_of_fields_and_the_label(fields: dict[str, Any], chance: Any, label: str) -> None:
    run = Run(**fields)
    table = list(run.to_dict().items())
    chance.shuffle(table)
    shuffled = dict(table)
    options = list(run.options.items())
    chance.shuffle(options)
    assert Run.from_json(shuffled | {"options": dict(options), "preset": label}).hash == run.hash


@given(specs)
def test_the_hash_says_what_differs(fields: dict[str, Any]) -> None:
    """Any one field that changes the weights changes the hash, whatever the others are."""
    run = Run(**fields)
    table = run.to_dict()
    for name, value in CHANGED.items():
        other = value if table[name] != value else getattr(Run(), name)
        if name in ("optimizer", "scheduler"):
            companions = {f"{name}_options": {"gamma": 0.5} if other == "exponential" else {}}
            plain = Run.from_json(table | {f"{name}_options": {}} | {name: getattr(Run(), name)})
            assert Run.from_json(plain.to_dict() | {name: other} | companions).hash != plain.hash
        elif name == "scheduler_options":
            steps = [Run.from_json(table | {"scheduler": "exponential", name: {"gamma": g}}) for g in (0.5, 0.6)]
            assert steps[0].hash != steps[1].hash
        elif name == "whiten":
            plain = table | {"augment": "none"}
            assert Run.from_json(plain | {name: other}).hash != Run.from_json(plain).hash
        elif name == "measure_every":  # it asks for measures
            plain = table | {"measures": ["norms"]}
            assert Run.from_json(plain | {name: other}).hash != Run.from_json(plain).hash
        elif name == "balance_repeats":  # such a run trains nothing, so it measures nothing of training
            plain = table | {"measures": []}
            assert Run.from_json(plain | {name: other}).hash != Run.from_json(plain).hash
        else:
            assert Run.from_json(table | {name: other}).hash != run.hash, name


def test_every_field_is_covered_and_defaults_are_not_hashed() -> None:
    assert set(CHANGED) | {"preset"} == {field.name for field in dataclasses.fields(Run)}
    assert len(Run().hash) == 12
    assert int(Run().hash, 16) >= 0
    assert Run(lr=0.1, options={}).hash == Run().hash
    assert Run(options={"a": 1}).hash == Run(options={"a": 1.0}).hash
    # Frozen: a change here moves every folder of every user.
    assert Run().hash == "d34734d4a4a3"
    assert Run(rule="dfa", seed=3, options={"hidden_scale": 0.5}).hash == "8b22f8eaf68b"


def test_the_spec_cannot_be_changed_behind_its_hash() -> None:
    options = {"layers": [1, 2]}
    run = Run(options=options)
    before = run.hash
    options["layers"].append(3)
    run.to_dict()["options"]["layers"].append(4)
    assert run.hash == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.lr = 1.0  # type: ignore[misc]


NONSENSE = [
    ({"epoch": 3}, "unknown field of a spec 'epoch'; did you mean 'epochs'?"),
    ({"epochs": -1}, "'epochs' is -1"),
    ({"epochs": 2.5}, "'epochs' is 2.5; expected a whole number"),
    ({"epochs": True}, "'epochs' is True"),
    ({"epochs": "ten"}, "'epochs' is 'ten'"),
    ({"epochs": None}, "'epochs' is None"),
    ({"lr": float("nan")}, "'lr' is nan; give a finite number"),
    ({"lr": 10**400}, "too large"),
    ({"lr": -0.1}, "'lr' is -0.1"),
    ({"seed": 2**63}, "below 2"),
    ({"seed": -1}, "'seed' is -1"),
    ({"batch_size": 0}, "'batch_size' is 0"),
    ({"validation": 1.0}, "'validation' is 1.0"),
    ({"validation": 0, "select": "validation"}, "needs a validation split"),
    ({"select": "best"}, "did you mean 'test'?"),
    ({"augment": "crop-flip"}, "did you mean 'crop_flip'?"),
    ({"precision": "float16"}, "did you mean 'bfloat16'?"),
    ({"clip_norm": 0}, "'clip_norm' is 0.0"),
    ({"train_limit": 0}, "'train_limit' is 0"),
    ({"measures": "norms"}, "'measures' is 'norms'; expected a list"),
    ({"measures": ["norms", 3]}, "'measures[1]' is 3; expected text"),
    ({"measures": ["norms", "norms"]}, "names 'norms' twice"),
    ({"measures": ["angles"], "alignment_batch": 8}, "what 'alignment_batch' asks for"),
    ({"measure_batch": 0}, "'measure_batch' is 0"),
    ({"measure_every": 5}, "there are none; name some"),
    ({"measure_every": 5, "measures": ["norms"], "trace_every": 5}, "both write trace.jsonl"),
    ({"top_k": -1}, "'top_k' is -1"),
    ({"whiten": 0}, "'whiten' is 0.0; it must be positive, or null"),
    ({"whiten": 0.1, "augment": "flip"}, "augment 'flip' moves pixels, which 'whiten' has mixed"),
    ({"experiment": "../up"}, "'experiment' is '../up'"),
    ({"experiment": "/root"}, "'experiment' is '/root'"),
    ({"optimizer": "sdg"}, "did you mean 'sgd'?"),
    ({"optimizer": "lbfgs"}, "unknown optimizer"),
    ({"optimizer_options": {"momentun": 0.9}}, "did you mean 'momentum'?"),
    ({"optimizer_options": {"lr": 0.9}}, "own field 'lr'"),
    ({"optimizer_options": [0.9]}, "expected a table"),
    ({"scheduler": "cosin"}, "did you mean 'cosine'?"),
    ({"scheduler": "multistep", "scheduler_options": {"milestone": [1]}}, "did you mean 'milestones'?"),
    ({"scheduler_options": {"gamma": 0.1}}, "unknown option of the scheduler constant 'gamma'"),
    ({"options": {"f": print}}, "'options.f' holds a builtin_function_or_method"),
    ({"options": {"f": [0.0, float("inf")]}}, "'options.f[1]' is inf"),
    ({"options": {1: 2}}, "keys must be text"),
]


@pytest.mark.parametrize(("fields", "words"), NONSENSE, ids=[str(fields)[:40] for fields, _ in NONSENSE])
def test_nonsense_is_one_line_that_helps(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Run.from_json(fields)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "the spec is a list"),
        ('{"lr": NaN}', "holds NaN"),
        ('{"lr": 1e999}', "'lr' is inf"),
        ('{"lr": 1, "lr": 2}', "gives 'lr' twice"),
        ("[" * 100_000, "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_broken_json_is_one_line(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Run.from_json(source)
    assert "\n" not in str(caught.value)


@given(specs, st.data())
def test_an_edited_spec_never_crashes(fields: dict[str, Any], draw: st.DataObject) -> None:
    """Any field replaced by any JSON value gives a run or an ``InputError``, nothing else."""
    table = json.loads(Run(**fields).to_json())
    table[draw.draw(st.sampled_from(sorted(table)))] = draw.draw(values)
    with contextlib.suppress(InputError):
        Run.from_json(json.dumps(table))


def test_durations_and_machines() -> None:
    assert [parse_duration(said) for said in ("90", "45s", "8m", "1h30m", "2d", "0.5s")] == [
        90, 45, 480, 5400, 172800, 0.5,
    ]  # fmt: skip
    for said in ("", "m", "8 minutes", "-3s", "0", "5x", "1h30", "nan"):
        with pytest.raises(InputError):
            parse_duration(said)
    for fields in ({"device": "gpu"}, {"threads": 0}, {"time_limit": 0}, {"checkpoint_every": -1.0}, {"threads": "2"}):
        with pytest.raises(InputError):
            Machine(**fields)


def test_an_experiment_checks_itself() -> None:
    @dataclasses.dataclass(frozen=True)
    class Study:
        epochs: int = 2

        def runs(self, seed: int) -> list[Run]:
            return [Run(experiment="paper/table1", epochs=self.epochs, seed=seed)]

    table = Experiment("paper/table1", 1, "Table 1", "Someone 2020", {"smoke": Study()})
    assert table.preset("smoke").runs(3)[0].seed == 3
    with pytest.raises(InputError, match="did you mean 'smoke'"):
        table.preset("smok")
    for fields in ({"name": "a b"}, {"version": 0}, {"presets": {}}):
        with pytest.raises(InputError):
            dataclasses.replace(table, **fields)
    with pytest.raises(InputError, match="unknown experiment"):
        experiments["nothing/here"]
