"""Rules by name: ``make`` validates everything at once, so that nothing fails later, inside training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from equipoise.errors import InputError, unknown_name
from equipoise.functional.draws import laws
from equipoise.functional.losses import Loss, as_loss
from equipoise.registry import Registry

if TYPE_CHECKING:
    from equipoise.rules.base import Options, Rule

__all__ = ["describe", "make", "names", "options", "register", "registry"]

registry: Registry[type[Rule]] = Registry("rule")


def register(name: str) -> Callable[[type[Rule]], type[Rule]]:
    """Enter a ``Rule`` subclass of your own under ``name``; ``make``, the command line and the page find it."""
    return registry.register(name)


def names() -> list[str]:
    """The rules that exist."""
    return list(registry)


def describe(name: str) -> str:
    """One line about the rule ``name``."""
    return (registry[name].__doc__ or "").strip().splitlines()[0]


def options(name: str) -> type[Options]:
    """The frozen dataclass of the rule's options."""
    return registry[name].Options


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def validated(name: str, given: dict[str, Any]) -> Options:
    """The options ``given`` of the rule ``name``, checked; ``InputError`` for an unknown name, option or value."""
    kind = options(name)
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"option of rule '{name}':", key, known)
        if not _fits(value, hints[key]):
            wanted = " or ".join(map(repr, get_args(hints[key]))) or hints[key].__name__
            raise InputError(f"option {key} of rule '{name}' takes {wanted}, not {value!r}")
        if isinstance(value, float) and value != value:
            raise InputError(f"option {key} of rule '{name}' is not a number")
        if key == "law":
            laws[str(value)]
    return kind(**given)


def _trainable(model: Any) -> nn.Module:
    """``model``, if a rule can hold it."""
    if not isinstance(model, nn.Module):
        raise InputError(f"a rule trains a torch.nn.Module, not {type(model).__name__}")
    wrapper = type(model).__name__
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise InputError(
            f"the model is wrapped in {wrapper}, whose hooks would miss or repeat the rule's own all-reduce; "
            "pass model.module (rule.backward averages over ranks by itself)"
        )
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise InputError("the model is compiled; pass the plain module, and compile rule.gradients instead")
    parameters = list(model.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        raise InputError("the model has lazy layers without a shape; run one batch through it first")
    if not any(p.requires_grad for p in parameters):
        raise InputError(f"{wrapper} has no trainable parameter")
    return model


def make(
    name: str,
    model: nn.Module,
    *,
    example: Tensor | None = None,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    seed: int = 0,
    **options: Any,
) -> Rule:
    """The rule ``name`` for ``model``: ``rule.backward(x, y)`` then stands where ``loss.backward()`` stood.

    example: a batch (B, ...) of the input, two samples are enough. With it everything that the rule cannot train
    is refused here, by the layer's name; without it, at the first ``backward``. ``rule.gradients`` under ``vmap``
    or ``compile`` needs it. loss: see ``functional.as_loss``. seed: of the fixed feedback, which depends on it and
    on the layers' names and shapes alone. options: the fields of ``rules.options(name)``. Every refusal is an
    ``InputError``.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> rule = make("fa", model, example=torch.randn(2, 4))
    >>> rule.backward(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])).output.shape
    torch.Size([5, 3])
    """
    kind = registry[name]
    chosen = validated(name, options)
    rule = kind(_trainable(model), loss=as_loss(loss), seed=seed, options=chosen)
    if example is not None:
        if not isinstance(example, Tensor) or example.ndim < 2:
            raise InputError("example is a batch (B, ...) of the model's input")
        rule.look(example)
    return rule
