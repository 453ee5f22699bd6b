"""What a trace, a custom layer or a person says of a network's scaling, gathered into one ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from equipoise.balance.conditions import apart_in_memory, extended, masked_tie, nonzero, same_exponent
from equipoise.balance.ledger import Ledger, Use, compact
from equipoise.errors import InputError

__all__ = ["Boundary", "Builder", "Opened"]


@dataclass(frozen=True)
class Boundary:
    """A place where a signal is read as it is: ``name`` in the model, ``kind`` of operation, and ``why``."""

    name: str
    kind: str
    why: str


@dataclass
class Opened:
    """The nodes that one layer opened for its units, and the parameters that lead into them."""

    name: str
    ids: Tensor
    weights: list[str]


@dataclass(frozen=True)
class _Part:
    """A use of a parameter; ``cover`` (its shape, bool) marks the elements used, None for all of them."""

    use: Use
    cover: Tensor | None


class Builder(Ledger):
    """The ledger of one model: nodes and equations, with the model's parameters and the names of its layers.

    Describe a network by hand by walking through it from the input:

        b = Builder(model)
        hidden = b.units("fc1", 20)
        b.use("fc1.weight", into=hidden[:, None], out_of=b.visible())
        b.use("fc1.bias", into=hidden, out_of=b.visible(), bias=True)
        b.use("fc2.weight", into=b.visible(), out_of=hidden)
        graph = ScalingGraph.declare(b)

    ``units`` opens nodes, ``use`` says which parameter element carries which exponent, ``tie``, ``fix``, ``combine``
    and ``equate`` write conditions between nodes.
    """

    def __init__(self, model: nn.Module, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.model = model
        self.parameters = dict(model.named_parameters())
        apart_in_memory(self.parameters)
        self.names = {id(parameter): name for name, parameter in self.parameters.items()}
        self.opened: list[Opened] = []
        self.boundaries: list[Boundary] = []
        self.pinned: dict[str, str] = {}
        self.constant: dict[str, str] = {}
        self.scale_free: set[str] = set()
        self.relied: dict[str, Tensor] = {}  # by name: the elements that conditions left out because they are 0
        self.frozen = self._matching(frozen)
        self._parts: dict[str, list[_Part]] = {}

    def _matching(self, patterns: Sequence[str]) -> set[str]:
        every = dict(self.model.named_parameters(remove_duplicate=False))
        found: set[str] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            names = [name for name in every if fnmatchcase(name, pattern)]
            if not names:
                raise InputError(f"frozen='{pattern}' matches no parameter; there are {', '.join(list(every)[:8])}")
            found.update(self.names[id(every[name])] for name in names)
        return found

    def units(self, name: str, shape: int | Sequence[int], weights: Sequence[str] = ()) -> Tensor:
        """Open a node for each unit of the layer ``name``."""
        ids = self.fresh(shape)
        self.opened.append(Opened(name, ids, list(weights)))
        return ids

    def use(self, parameter: str | Tensor, into: Tensor, out_of: Tensor, bias: bool = False) -> None:
        """Say that element e of ``parameter`` becomes w_e exp(v[into_e] - v[out_of_e]).

        ``parameter`` is a name of ``model.named_parameters()``, or the parameter itself; ``into`` and ``out_of``
        broadcast to its shape.
        """
        name = parameter if isinstance(parameter, str) else self.names.get(id(parameter), "")
        if name not in self.parameters:
            raise InputError(f"'{name or type(parameter).__name__}' is no parameter of the model")
        shape = self.parameters[name].shape
        for ids in (into, out_of):
            try:
                fits = torch.broadcast_shapes(ids.shape, shape) == shape
            except RuntimeError:
                fits = False
            if not fits:
                raise InputError(f"'{name}' {tuple(shape)}: node ids {tuple(ids.shape)} do not broadcast to it")
        self.use_part(name, into, out_of, None, bias)

    def use_part(self, name: str, into: Tensor, out_of: Tensor, cover: Tensor | None, bias: bool = False) -> None:
        """The same for the elements that ``cover`` marks alone."""
        part = _Part(Use(name, into, out_of, bias), cover)
        held = self._parts.setdefault(name, [])
        if not any(_same(part, other) for other in held):
            held.append(part)

    def bound(self, name: str, kind: str, ids: Sequence[Tensor], why: str, *, scale_free: bool = False) -> None:
        """Signals with these nodes are read as they are, by the operation ``kind`` at ``name``."""
        says = f"feeds {kind} '{name}'" if name else f"feeds {kind}"
        for each in ids:
            self.fix(each, says)
        if scale_free:
            self.scale_free.add(says)
        if any(self._alive(each) for each in ids) and Boundary(name, kind, why) not in self.boundaries:
            self.boundaries.append(Boundary(name, kind, why))

    def _alive(self, ids: Tensor) -> bool:
        """Whether some of the nodes are neither visible nor those of a value that is 0."""
        flat = compact(ids).reshape(-1)
        return bool(((flat != 0) & ~self.idle()[flat]).any())

    def pin(self, name: str, why: str) -> None:
        """The parameter ``name`` is read as it is: it keeps its value."""
        self.pinned.setdefault(name, why)

    def uses(self) -> tuple[Use, ...]:
        """One use a parameter, after writing the conditions of frozen and of shared parameters into the ledger."""
        result = []
        for name, parts in self._parts.items():
            if not self.parameters[name].numel():
                continue
            merged = parts[0].use
            if len(parts) > 1 or parts[0].cover is not None:
                mask = self._nonzero(name)
                merged = self._merged(name, parts, mask) if any(p.cover is not None for p in parts) else merged
                if all(p.cover is None for p in parts):
                    for part in parts[1:]:
                        same_exponent(self, merged, part.use, mask)
            if name in self.frozen:
                masked_tie(self, merged.into, merged.out_of, self._nonzero(name), "frozen weight")
            if name in self.pinned:
                masked_tie(self, merged.into, merged.out_of, self._nonzero(name), f"'{name}' is {self.pinned[name]}")
            result.append(merged)
        return tuple(result)

    def _nonzero(self, name: str) -> Tensor | None:
        """The elements of a parameter that conditions hold for; that the others are 0 is noted in ``relied``."""
        mask = nonzero(self.parameters[name])
        if mask is not None:
            self.relied[name] = ~mask
        return mask

    def _merged(self, name: str, parts: list[_Part], mask: Tensor | None) -> Use:
        """Uses of pieces of one parameter as one; where pieces overlap their exponents are equal."""
        shape = self.parameters[name].shape
        into, out_of = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
        covered = torch.zeros(shape, dtype=torch.bool)
        for part in parts:
            cover = torch.ones(shape, dtype=torch.bool) if part.cover is None else part.cover
            new, twice = cover & ~covered, cover & covered
            twice = twice if mask is None else twice & mask
            a, b = part.use.into.expand(shape), part.use.out_of.expand(shape)
            if twice.any():
                same_exponent(self, Use(name, into[twice], out_of[twice]), Use(name, a[twice], b[twice]), None)
            into[new], out_of[new] = a[new], b[new]
            covered |= cover
        if not covered.all():
            into, out_of = extended(self.classes(), into, out_of, covered)
        return Use(name, into, out_of, parts[0].use.bias)


def _same(one: _Part, other: _Part) -> bool:
    """Whether two uses say the same: a layer that runs again on classes that it met before."""
    pairs = ((one.use.into, other.use.into), (one.use.out_of, other.use.out_of), (one.cover, other.cover))
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
