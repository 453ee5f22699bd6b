"""Spiking networks by a text: their layers, their parameters counted by hand and against published counts.

A failure here means that a name builds another network than it says, or that E-I networks and their twins differ in
more than their normalisation.
"""

from __future__ import annotations

import pytest
from torch import nn

from equipoise import models
from equipoise import nn as enn

# Published counts (E-I spiking paper, its program); a readout's gains and bias (n_i + 2 classes), which never learn
# anything there, do not exist here.
PUBLISHED_EI = {8: 5_048_714, 11: 11_834_570, 16: 18_856_378, 19: 25_642_234}
PUBLISHED_BATCH = {16: 14_724_042, 19: 20_035_018}
DEAD = 2 + 2 * 10


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", PUBLISHED_EI)
def test_a_vgg_has_the_published_parameters_but_for_the_dead_ones(depth: int) -> None:
    network = models.spiking_vgg(f"3x32x32-10,depth={depth}")
    assert size(network) == PUBLISHED_EI[depth] - DEAD
    assert sum(isinstance(m, enn.EIConv2d) for m in network.modules()) == {8: 5, 11: 8, 16: 13, 19: 16}[depth]


@pytest.mark.parametrize("depth", PUBLISHED_BATCH)
def test_its_twin_with_batch_normalisation_has_the_published_ones(depth: int) -> None:
    assert size(models.spiking_vgg(f"3x32x32-10,depth={depth},norm=batch")) == PUBLISHED_BATCH[depth]
