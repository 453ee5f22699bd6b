"""Conditions that the elements of a weight put on nodes: a frozen weight, a weight that is used twice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.balance.ledger import Ledger, Use, compact
from equipoise.errors import InputError

__all__ = ["apart_in_memory", "extended", "masked_tie", "nonzero", "same_exponent"]


def apart_in_memory(parameters: Mapping[str, Tensor]) -> None:
    """Raise InputError where two elements of ``parameters`` are one place in memory: it would be scaled twice.

    Weights that are tied by being the same ``Parameter`` are one parameter, and fine.
    """
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for name, value in parameters.items():
        if value.is_meta or not value.numel() or value.layout != torch.strided:
            continue
        length = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        if length < value.numel():
            raise InputError(f"several elements of '{name}' are one place in memory (an expanded tensor); clone() it")
        first = value.data_ptr()
        spans.setdefault(value.device.index or 0, []).append((first, first + length * value.element_size(), name))
    for held in spans.values():
        open_ones: list[tuple[int, str]] = []
        for start, end, other in sorted(held):
            open_ones = [(far, one) for far, one in open_ones if far > start]
            for _, one in open_ones:
                if _meet(parameters[one], parameters[other]):
                    raise InputError(
                        f"'{one}' and '{other}' share memory without being one parameter; "
                        "tie them by using the same Parameter (or its transpose) in both places, or clone() one"
                    )
            open_ones.append((end, other))


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have a byte in common."""
    places = []
    for value in (a, b):
        at = torch.tensor([value.data_ptr() // value.element_size()])
        for size, stride in zip(value.shape, value.stride(), strict=True):
            at = (at[:, None] + stride * torch.arange(size)).reshape(-1)
        places.append(at)
    return bool(torch.isin(*places).any())


def nonzero(parameter: Tensor) -> Tensor | None:
    """Which elements are not 0 (bool, on the CPU); None where all are, or where there are no values to see."""
    if parameter.is_meta or int(torch.count_nonzero(parameter.detach())) == parameter.numel():
        return None
    return (parameter.detach() != 0).cpu()


def _axes(ids: Tensor) -> set[int]:
    return {axis for axis, size in enumerate(ids.shape) if size > 1}


def _padded(ids: Tensor, ndim: int) -> Tensor:
    small = compact(ids)
    return small.reshape((1,) * (ndim - small.ndim) + tuple(small.shape))


def masked_tie(ledger: Ledger, a: Tensor, b: Tensor, mask: Tensor | None, why: str) -> None:
    """v_a = v_b, elementwise under broadcasting, where ``mask`` (None: everywhere) holds."""
    if mask is None:
        ledger.tie(a, b, why)
        return
    a, b = _padded(a, mask.ndim), _padded(b, mask.ndim)
    for axis in set(range(mask.ndim)) - _axes(a) - _axes(b):
        mask = mask.any(axis, keepdim=True)
    if not _axes(a) & _axes(b) and _joined(mask, _axes(a)) and _joined(mask, _axes(b)):
        ledger.tie(a, b, why)
        return
    shape = torch.broadcast_shapes(a.shape, b.shape, mask.shape)
    here = mask.expand(shape)
    ledger.tie(a.expand(shape)[here], b.expand(shape)[here], why)


def _joined(mask: Tensor, axes: set[int]) -> bool:
    """Whether some element along the other axes meets every element of ``axes``: then these are all in one class."""
    return bool((mask.all(sorted(axes)) if axes else mask).any())


def same_exponent(ledger: Ledger, one: Use, other: Use, mask: Tensor | None) -> None:
    """Two uses of one weight: v[into] - v[out_of] is equal at every element that is not 0.

    The four nodes vary along different axes of the weight (rows, columns), so the condition splits: what varies
    along the rows equals what varies along the columns, A_i = B_j at each non-zero (i, j).
    """
    terms = [(1.0, one.into), (-1.0, one.out_of), (-1.0, other.into), (1.0, other.out_of)]
    ndim = max(ids.ndim for _, ids in terms)
    ndim = ndim if mask is None else mask.ndim
    groups: list[tuple[set[int], list[tuple[float, Tensor]]]] = []
    for c, ids in ((c, _padded(ids, ndim)) for c, ids in terms):
        axes, held = _axes(ids), [(c, ids)]
        for group in [g for g in groups if g[0] & axes]:
            groups.remove(group)
            axes, held = axes | group[0], group[1] + held
        groups.append((axes, held))
    alone = [term for axes, held in groups if not axes for term in held]
    varying = [held for axes, held in groups if axes] or [[]]
    varying[0] = varying[0] + alone
    why = f"'{one.name}' is shared"
    if len(varying) == 1:
        masked_tie(ledger, ledger.combine(varying[0]), ledger.visible((1,) * ndim), mask, why)
        return
    if len(varying) > 2:
        mask = None
        varying = [[(c, ids)] for held in varying for c, ids in ((1.0, _first(ledger, ledger.combine(held))),)]
        varying = [[term for held in varying[:-1] for term in held], varying[-1]]
    rows, columns = ledger.combine(varying[0]), ledger.combine([(-c, ids) for c, ids in varying[1]])
    masked_tie(ledger, rows, columns, mask, why)


def _first(ledger: Ledger, ids: Tensor) -> Tensor:
    return ledger.tie_along(ids, range(ids.ndim))


def extended(classes: Tensor, into: Tensor, out_of: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes for elements that the traced pass did not use (positions beyond the example's): those of their neighbours.

    Along an axis where all elements that were used have the same classes, the others get them too; elsewhere they keep
    what they have. ``into``, ``out_of``: nodes of each element; ``covered``: which were used; all of one shape.
    """
    for axis in range(covered.ndim):
        some = covered.any(axis, keepdim=True)
        if bool((covered == some).all()):
            continue
        first = covered.int().argmax(axis, keepdim=True)
        near = [ids.gather(axis, first) for ids in (into, out_of)]
        alike = [(classes[ids] == classes[one]) | ~covered for ids, one in zip((into, out_of), near, strict=True)]
        if all(bool(same.all()) for same in alike):
            new = some & ~covered
            into, out_of = (torch.where(new, one, ids) for ids, one in zip((into, out_of), near, strict=True))
            covered = covered | new
    return into, out_of
