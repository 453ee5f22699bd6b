"""The contracts through which parts meet: protocols only, so that nothing here needs anything but torch.

A part joins by having the attributes below; it inherits from nothing. Constraints and factors are declared by
*local parameter name*, because an attribute on a ``Parameter`` is lost by ``deepcopy`` and by
``load_state_dict(assign=True)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

__all__ = [
    "Constrained",
    "Constraint",
    "Costed",
    "Counted",
    "Handwritten",
    "Invertible",
    "LocalObjective",
    "Passed",
    "Pointwise",
    "RateScaled",
    "Scalable",
    "ScaleLedger",
    "Site",
    "Stacked",
    "Synapses",
]


@runtime_checkable
class Site(Protocol):
    """A circuit whose error signal arrives at its *input*: its inner pathways keep their exact derivative.

    ``projections`` names the parameters that carry signals from the layer below (``("weight_ee", "weight_ie")``);
    feedback rules replace the backward use of these alone, unless they are told ``inside="random"``.
    """

    projections: tuple[str, ...]


@runtime_checkable
class LocalObjective(Protocol):
    """A module with a loss of its own, computed from its detached input and its own parameters.

    Every rule catches the module's input during the forward pass and adds ``local_weight`` times the gradient
    of ``local_loss`` to the module's own parameters; nothing reaches any other parameter. A module that needs much the
    same for both may have ``forward_with_loss(input)`` too: (output, local loss) in one, the loss cut off from
    ``input`` by itself, or None to have the two asked for one by one.
    """

    def local_loss(self, input: Tensor, /) -> Tensor:
        """A scalar: the batch mean of the local loss at ``input`` (B, I), which carries no gradient."""
        ...


# (output, local loss or None, back); back(error at the output, the local loss's weight, whether to go further) gives
# the gradients by the parameter's local name, and the error at the input, which may be None where nothing asks for it.
Passed = tuple[Tensor, Tensor | None, Callable[[Tensor, float, bool], tuple[dict[str, Tensor], Tensor | None]]]


@runtime_checkable
class Handwritten(Protocol):
    """A layer that knows its derivative by heart, for ``bp`` along a chain of such: no graph is built.

    It says the same as ``forward`` (and ``local_loss``) under autograd, to rounding, or None to be asked that way.
    """

    def by_hand(self, input: Tensor, /) -> Passed | None:
        """One pass over ``input`` (B, I), and the way back, called once; grad mode is off in both."""
        ...


@runtime_checkable
class Constraint(Protocol):
    """A set that a parameter must stay in, given by the projection onto it."""

    def project(self, value: Tensor, /) -> Tensor:
        """The nearest point of the set to ``value``, as a new tensor of the same shape."""
        ...


@runtime_checkable
class Constrained(Protocol):
    """A module some of whose parameters live in a set: ``constraints = {"weight_ee": NonNegative()}``."""

    constraints: Mapping[str, Constraint]


@runtime_checkable
class RateScaled(Protocol):
    """A module some of whose parameters learn at another rate: ``rate_factors = {"weight_ei": 1 / 8}``."""

    rate_factors: Mapping[str, float]


@runtime_checkable
class Invertible(Protocol):
    """A layer that target propagation can run backwards."""

    def inverse(self, output: Tensor, input: Tensor, /) -> Tensor:
        """The input that gives ``output``, near the forward ``input`` where several do; both (B, ...)."""
        ...

    def inverse_difference(self, difference: Tensor, input: Tensor, /) -> Tensor:
        """The change of the input that changes the output by ``difference``, to first order at ``input``."""
        ...


class ScaleLedger(Protocol):
    """Where a layer writes how its units can be rescaled; node 0 is visible, its log-scale v is always 0."""

    def units(self, name: str, shape: int | Sequence[int], weights: Sequence[str] = ...) -> Tensor:
        """New nodes for a layer's units, int64 ids in a tensor of ``shape``."""
        ...

    def visible(self, shape: int | Sequence[int] = ...) -> Tensor:
        """Node 0 in a tensor of ``shape``."""
        ...

    def use(self, parameter: str | Tensor, into: Tensor, out_of: Tensor, bias: bool = ...) -> None:
        """Element e of ``parameter`` becomes w_e exp(v[into_e] - v[out_of_e]); the ids broadcast to its shape."""
        ...

    def tie(self, a: Tensor, b: Tensor, why: str = ...) -> None:
        """v_a = v_b: the two signals are added, or compared."""
        ...

    def tie_along(self, ids: Tensor, axes: int | Sequence[int], why: str = ...) -> Tensor:
        """v equal along ``axes``, which the result keeps at length 1."""
        ...

    def fix(self, ids: Tensor, why: str = ...) -> None:
        """v = 0: the signal is read as it is."""
        ...

    def combine(self, terms: Sequence[tuple[float, Tensor]]) -> Tensor:
        """Nodes with v = sum of coefficient times v: products of signals, and powers."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """A layer that says itself how synaptic balance may rescale it, where its forward pass would not show it.

    ``y_c -> exp(v_c) y_c`` for its outputs when its inputs are scaled alike: the layer opens nodes for its units,
    enters each parameter's exponents, and returns the nodes of its output.
    """

    def scale_classes(self, ledger: ScaleLedger, *gains: Tensor) -> Tensor | Sequence[Tensor]:
        """The nodes of each output, for the nodes of each input (int64 ids in the tensors' shapes, batch included)."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A layer that sums over units, and leaves out those that are padding.

    It has a buffer that is None, or the real number of its units; padded units follow the real ones, hold 0 and are
    kept at 0. A population pads members to the widest, and fills these buffers.
    """

    def counts(self, input: Tensor, /) -> Mapping[str, int]:
        """By the name of such a buffer, the number that it stands for where this layer is given ``input`` (B, ...)."""
        ...


@runtime_checkable
class Stacked(Protocol):
    """A layer with parameters whose first axis holds several kinds of cells, one behind the other.

    ``stacked = {"weight": (8, 2)}``: eight rows of one kind above two of another. Each kind is padded by itself.
    """

    stacked: Mapping[str, Sequence[int]]


class Synapses(NamedTuple):
    """A product with weights, of ``cells`` cells that all have ``inputs`` inputs among the activities ``source``.

    reach(counts), for ``counts`` shaped as ``source``: what one such cell would sum at each position if all its weights
    were 1. So a product takes as many multiply-accumulates as positions, inputs and cells say, and where ``source``
    counts spikes, ``reach(source).sum()`` accumulates a cell.
    """

    part: str
    source: Tensor
    cells: int
    inputs: int
    reach: Callable[[Tensor], Tensor]


class Pointwise(NamedTuple):
    """Other arithmetic of a layer in one pass, over all rows and positions."""

    part: str
    macs: int = 0
    accumulates: int = 0
    multiplications: int = 0
    divisions: int = 0


@runtime_checkable
class Costed(Protocol):
    """A layer that says itself what arithmetic a pass takes, where its products would not show it."""

    def work(self, input: Tensor, output: Tensor, /) -> Iterable[Synapses | Pointwise]:
        """What the pass from ``input`` to ``output``, both (B, ...), took."""
        ...
