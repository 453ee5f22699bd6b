"""Where a tensor comes from: the model's input, its parameters, or both; read off the autograd graph.

The graph sees what no list of functions can: a weight that was masked, normalised, factored or generated before it
is used, by whatever operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction

__all__ = ["Origins", "of_weights_alone"]

_INPUT, _BOTH = frozenset({""}), frozenset({"", "*"})
_Names = frozenset[str]


def of_weights_alone(names: _Names) -> bool:
    """Whether a tensor of this origin is made of parameters, and the input has no part in it."""
    return bool(names) and "" not in names


class Origins:
    """The origin of each tensor of one forward pass, as a set of names.

    Empty: a constant. Names of parameters: made of these alone. ``""`` and perhaps ``"*"``: made of the input, and
    of parameters on the way.
    """

    def __init__(self, tensors: Mapping[str, Tensor], x: Tensor) -> None:
        self.leaves: dict[int, _Names] = {id(t): frozenset({n}) for n, t in tensors.items()}
        self.leaves[id(x)] = _INPUT
        self.known: dict[Any, _Names] = {}

    def of(self, tensor: Tensor) -> _Names:
        """The origin of ``tensor``."""
        if tensor.grad_fn is None:
            return self.leaves.get(id(tensor), frozenset()) if tensor.requires_grad else frozenset()
        waiting = [tensor.grad_fn]
        while waiting:
            node = waiting[-1]
            below = [n for n, _ in node.next_functions if n is not None]
            unknown = [n for n in below if n not in self.known]
            if unknown and node not in self.known:
                waiting += unknown
                continue
            if node not in self.known:
                self.known[node] = self._join(node, below)
            waiting.pop()
        return self.known[tensor.grad_fn]

    def learned_lookup(self, tensor: Tensor) -> None:
        """Count ``tensor``, rows of a table that the input chose, as made of the input."""
        if tensor.grad_fn is not None:
            self.known[tensor.grad_fn] = _BOTH

    def custom(self) -> Iterator[tuple[Any, list[_Names]]]:
        """Each node of a user's own ``autograd.Function``, with the origins of its inputs."""
        for node in self.known:
            if isinstance(node, BackwardCFunction):
                yield node, [self.known[n] for n, _ in node.next_functions if n is not None]

    def _join(self, node: Any, below: list[Any]) -> _Names:
        if type(node).__name__ == "AccumulateGrad":
            return self.leaves.get(id(node.variable), frozenset())
        names = frozenset[str]().union(*(self.known[n] for n in below))
        return _BOTH if "" in names and len(names) > 1 else names
