"""The rows of docs/architecture.md on inhibitory normalisation, from outside the package.

A failure means that a network of the comparisons, or a law of pooling weights, takes more than its entry.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise import sweep
from equipoise.functional.gradnorm import MODES, edit_error
from equipoise.nn import LateralInhibition
from equipoise.nn.lateral import POOLING, pooling_weights
from equipoise.papers import load_all
from equipoise.papers.exhibits import Table
from equipoise.papers.inorm.conditions import CONDITIONS, Condition, Scale, condition_of
from equipoise.papers.inorm.figures import EXHIBITS
from equipoise.papers.inorm.studies import Paired

load_all()


def test_a_network_from_outside_is_trained_at_the_shared_draws_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONS, "mine", Condition("inorm", "gradnorm=center,ratio=0.3", "inorm/accuracy", "mine"))
    runs = Paired(("ln", "mine"), scale=Scale(data="digits", draws=3, ranges=(0.75,))).runs(0)
    rows = [
        {**sweep.flat(run), "hash": run.hash, "preset": "x", "test_accuracy": 0.8 + k / 100}
        for k, run in enumerate(runs)
    ]
    assert [condition_of(row) for row in rows] == ["ln", "mine"] * 3
    table = next(one for one in EXHIBITS["inorm/accuracy"](rows, {}, Path("none")) if isinstance(one, Table))
    assert [line[1] for line in table.rows] == ["LN", "mine"]


def test_a_law_of_pooling_weights_from_outside_is_a_circuits_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POOLING, "first", lambda u: (torch.arange(u.shape[1]) == 0).double().expand(u.shape))
    assert pooling_weights(5, law="first", seed=0).tolist() == [1, 0, 0, 0, 0]
    layer = LateralInhibition(4, law="first")
    x = torch.ones(1, 4, requires_grad=True)
    (layer(x) * torch.tensor([3.0, 1.0, 1.0, 1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, -2.0, -2.0, -2.0]]


def test_what_is_added_inside_a_file_is_where_the_page_says(root: Path) -> None:
    """Every mode has its line in ``edit_error``: none of them leaves an error as it was."""
    g, z = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mode in MODES:
        nu = torch.full((7,), 1 / 7, dtype=torch.float64) if mode == "lateral" else None
        assert not torch.allclose(edit_error(g, z, frozenset({mode}), nu=nu), g), mode
    text = (root / "docs" / "architecture.md").read_text()
    for name, words in {
        "functional/gradnorm.py": ("MODES", "edit_error"),
        "data/luminance.py": ("Luminance", "draw", "apply"),
        "nn/conversions.py": ("pairs",),
        "nn/convert.py": ("_fuse", "_free"),
        "nn/lateral.py": ("POOLING",),
        "papers/inorm/conditions.py": ("CONDITIONS",),
    }.items():
        source = (root / "src" / "equipoise" / name).read_text()
        for word in words:
            assert f"`{word}`" in text, word
            assert f"def {word}(" in source or f"class {word}" in source or f"\n{word}" in source, (name, word)
