"""The short way through a plain chain: the pass of ``Tape`` with cuts, without watching every torch call.

In an ``nn.Sequential`` of torch's own layers the sites are the inputs of its linear and convolutional layers, in
order, so there is nothing to find out. On dense networks the watching would cost as much as a tenth of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["chain_pass", "is_chain"]

_WEIGHTED = frozenset({nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d})
_PLAIN = _WEIGHTED | {
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Hardtanh),
    *(nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm),
}


def is_chain(model: nn.Module, sites: int) -> bool:
    """Whether ``model`` is an ``nn.Sequential`` of torch's own layers, ``sites`` of them weighted."""
    if type(model) is not nn.Sequential:
        return False
    kinds = [type(layer) for layer in model._modules.values()]
    return sum(kind in _WEIGHTED for kind in kinds) == sites and all(kind in _PLAIN for kind in kinds)


def chain_pass(model: nn.Module, x: Tensor, cuts: Sequence[bool]) -> tuple[Tensor, list[Tensor]]:
    """The chain's output with the inputs that ``cuts`` marks cut from the graph, and those inputs before the cut."""
    heard: list[Tensor] = []
    waiting = iter(cuts)
    for layer in model._modules.values():
        assert layer is not None
        if type(layer) in _WEIGHTED and next(waiting):
            heard.append(x)
            x = x.detach()
        x = layer(x)
    return x, heard
