"""Texts of spiking networks that are refused, in one line that names what to change.

A failure here means that an option is ignored without a word, or that an error names neither the option nor the model.
"""

from __future__ import annotations

import pytest
import torch

from equipoise import models
from equipoise import nn as enn
from equipoise.errors import InputError

V, M, R, D = "spiking-vgg:1x8x8-3", "spiking-mlp:6-5-3", "spiking-resnet:1x8x8-3", "dann-vgg:1x8x8-3"

REFUSED = {
    f"{V},norm=layer": "'layer' is no value of norm",
    f"{V},depth=9": "depth is one of 8, 11, 16, 19, not 9",
    f"{R},depth=50": "depth is one of 18, 34, not 50",
    f"{R},dropout=0.1": "options are key=value, of norm, steps",
    f"{R},head=heavy": "options are key=value, of norm, steps",
    f"{M},pool=max": "options are key=value, of norm, steps",
    f"{M},depth=4": "depth says the hidden widths",
    "spiking-mlp:6-3,depth=3": "depth is one of 2, 4, 6, 8, 12, 16, not 3",
    "spiking-mlp:6-3": "needs an input, hidden widths or a depth, and classes",
    "spiking-mlp:6": "needs an input, hidden widths or a depth, and classes",
    "spiking-mlp:1x8x8-3": "does not read as spiking-mlp:784-500-10",
    "spiking-vgg:8x8-3": "does not read as spiking-vgg:3x32x32-10",
    "spiking-resnet:1x8x8-5-3": "does not read as spiking-resnet:3x32x32-10",
    "dann-vgg:3": "does not read as dann-vgg:3x32x32-10",
    f"{V},steps=0": "'0' is no value of steps",
    f"{V},width=0": "'0' is no value of width",
    f"{V},width=nan": "'nan' is no value of width",
    f"{V},dropout=1": "'1' is no value of dropout",
    f"{V},encoder=spikes": "'spikes' is no value of encoder",
    f"{V},learn=leak": "'leak' is no value of learn",
    f"{V},norm=batch,ratio=0.5": "ratio belongs to E-I layers, and norm=batch has none",
    f"{V},norm=none,recurrent=yes": "recurrent belongs to E-I layers, and norm=none has none",
    f"{V},init=he_normal": "nn.ei_init_ sets E-I layers",
    f"{V},tau_inhibitory=2": "tau_inhibitory changes nothing unless inhibition=spiking",
    f"{V},share=0.2": "share changes nothing unless recurrent=yes",
    f"{V},recurrent=no,share=0.2": "share changes nothing unless recurrent=yes",
    f"{V},divisive=no,straight=no": "straight changes nothing unless divisive=yes",
    f"{V},stabilise=no,straight=no": "straight changes nothing unless stabilise=yes",
    f"{V},divisive=no,stabilise=no": "stabilise changes nothing unless divisive=yes",
    f"{V},ratio=0.5,pool_cells=2": "give one",
    f"{V},ratio=0": f"model '{V},ratio=0': ratio is the pool's width over the layer's, above 0",
    f"{V},pool_cells=0": "needs at least 1 cell, not pool=0",
    f"{V},subtractive=no,divisive=no": "inhibition that neither subtracts nor divides does nothing",
    f"{V},inhibition=spiking,recurrent=yes": "recurrent inhibition needs a hidden layer",
    f"{V},tau=0.5": "tau is a time constant in steps",
    f"{V},threshold=0": "a threshold must be above 0",
    f"{V},surrogate=sigmoidal": "did you mean 'sigmoid'",
    f"{D},steps=4": "options are key=value, of depth, width",
    f"{D},ratio=0": f"model '{D},ratio=0': ratio is the pool's width",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        models.make(text)
    assert REFUSED[text] in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frames_of_another_number_of_steps_are_refused() -> None:
    network = models.make(f"{V},encoder=frames,width=0.05")
    assert network(torch.rand(2, 4, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(InputError, match="frames come as"):
        network(torch.rand(2, 5, 1, 8, 8))
    with pytest.raises(InputError, match="frames come as"):
        network(torch.rand(2, 1, 8, 8))


def test_a_checkpoint_of_another_ratio_is_refused_by_the_layers_name() -> None:
    state = models.make(f"{R},width=0.1,ratio=0.5").state_dict()
    with pytest.raises(InputError, match=r"'net\.0\.weight_ei' of the checkpoint"):
        models.make(f"{R},width=0.1").load_state_dict(state)


def test_pictures_with_the_mean_taken_away_are_refused_by_the_first_layers_name() -> None:
    x = torch.rand(8, 1, 8, 8) - 0.5
    with pytest.raises(InputError, match=r"'net\.0': inputs of an E-I layer are rates"):
        enn.ei_init_(models.make(f"{V},width=0.05"), x)
    enn.ei_init_(models.make(f"{V},width=0.05,onoff=yes"), x)
