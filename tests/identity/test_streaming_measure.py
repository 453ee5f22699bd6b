"""The measure ``streaming``, frame by frame, against prefixes of the sequences run whole.

A failure here means that what a network is said to know after a frame is not what it knows.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from equipoise import measure, models
from equipoise import nn as enn
from equipoise.errors import InputError

X = torch.rand(40, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(40) % 3


@pytest.mark.parametrize("options", ["", ",recurrent=yes", ",norm=batch,threshold=0.05"])
def test_after_each_frame_it_is_the_accuracy_of_the_frames_so_far(options: str) -> None:
    model = models.make(f"spiking-mlp:5-12-3,encoder=frames,steps=6{options}").double()
    if "batch" not in options:
        enn.ei_init_(model, X)
    found = measure.measures["streaming"].function(SimpleNamespace(model=model), X, Y, None)
    assert set(found) == {"streaming", *(f"streaming/{t}" for t in range(1, 7))}
    model.eval()
    for t in range(1, 7):
        model.steps = t  # type: ignore[assignment]
        right = (model(X[:, :t]).argmax(1) == Y).double().mean()
        assert found[f"streaming/{t}"] == pytest.approx(float(right))
    assert found["streaming"] == found["streaming/6"]
    assert len(set(found.values())) > 2


def test_pictures_stream_by_their_code_and_other_networks_have_no_numbers() -> None:
    coded = models.make("spiking-mlp:30-5-3,encoder=rate,steps=3")
    assert len(measure.streaming(SimpleNamespace(model=coded), X.float().flatten(1), Y)) == 4
    assert int(coded.encoder.drawn) == 0  # type: ignore[union-attr, arg-type]
    assert measure.streaming(SimpleNamespace(model=torch.nn.Linear(5, 3)), X, Y) == {}
    with pytest.raises(InputError, match="scores classes"):
        measure.streaming(SimpleNamespace(model=coded), X, X)
