"""A functional call that any model survives.

``torch.func.functional_call`` loses the parameters of a module that is registered under two names, silently.
Here each (module, attribute) is listed once, under the name that ``named_parameters`` gives its tensor first, and
is filled and restored in place; modules with a local objective are wrapped for the time of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from equipoise.contracts import LocalObjective
from equipoise.errors import InputError

__all__ = ["Listener", "Slots"]


_EXACT_OWNERS = (
    *(nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    *(nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm),
)


def has_objective(module: nn.Module) -> bool:
    """Whether ``module`` keeps the contract ``LocalObjective``."""
    return isinstance(module, LocalObjective)


class Listener(nn.Module):
    """Stands in for a module during one forward pass, and notes the input that it is given, or its loss there.

    The loss where the module works it out in its forward pass (``contracts.LocalObjective``).
    """

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.__dict__["inner"] = inner
        self.__dict__["name"] = name
        self.__dict__["heard"] = []
        self.__dict__["losses"] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The inner module's output."""
        together = getattr(self.inner, "forward_with_loss", None)
        both = None if together is None else together(*args, **kwargs)
        if both is not None:
            self.losses.append(both[1])
            return both[0]
        self.heard.append(args[0] if args else next(iter(kwargs.values())))
        return self.inner(*args, **kwargs)


class Slots:
    """Where ``model`` keeps its tensors, and its modules with a local objective."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        first: dict[int, str] = {}
        self.places: list[tuple[nn.Module, str, str, str]] = []
        for prefix, module in model.named_modules():
            for kind in ("_parameters", "_buffers"):
                for attribute, tensor in getattr(module, kind).items():
                    if tensor is not None:
                        name = first.setdefault(id(tensor), f"{prefix}.{attribute}" if prefix else attribute)
                        self.places.append((module, kind, attribute, name))
        self.listeners = [Listener(n, m) for n, m in model.named_modules() if has_objective(m)]
        by_module = {id(listener.inner): listener for listener in self.listeners}
        self.entrance = by_module.get(id(model), model)
        self.posts = [
            (parent, child, by_module[id(module)])
            for parent in model.modules()
            for child, module in parent._modules.items()
            if id(module) in by_module
        ]

    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters as they are now, by first name."""
        return self._held("_parameters")

    def buffers(self) -> dict[str, Tensor]:
        """The model's buffers as they are now (within ``filled`` the given ones), by first name."""
        return self._held("_buffers")

    def _held(self, wanted: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for module, kind, attribute, name in self.places:
            if kind == wanted:
                tensor = getattr(module, kind)[attribute]
                if found.setdefault(name, tensor) is not tensor:
                    raise InputError(
                        f"'{name}' was one tensor in two places when the rule was made, and is two tensors now (a "
                        "state dict loaded with assign=True?); tie them again, or make the rule again"
                    )
        return found

    def exact(self) -> frozenset[str]:
        """Names of the parameters that belong to embeddings and normalisation alone."""
        owners: dict[str, list[nn.Module]] = {}
        for module, kind, _, name in self.places:
            if kind == "_parameters":
                owners.setdefault(name, []).append(module)
        return frozenset(n for n, held in owners.items() if all(isinstance(m, _EXACT_OWNERS) for m in held))

    def copies(self) -> dict[str, Tensor]:
        """Copies of all tensors by first name, every parameter requiring a gradient, for a trial run."""
        tensors = {n: t.detach().clone() for n, t in {**self.parameters(), **self.buffers()}.items()}
        for name in self.parameters():
            tensors[name].requires_grad_(tensors[name].is_floating_point())
        return tensors

    @contextmanager
    def filled(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block the model computes with ``tensors`` (by first name; others keep their value)."""
        before = []
        for module, kind, attribute, name in self.places:
            holder = getattr(module, kind)
            before.append(holder[attribute])
            if name in tensors:
                holder[attribute] = tensors[name]
        try:
            yield
        finally:
            for (module, kind, attribute, _), tensor in zip(self.places, before, strict=True):
                getattr(module, kind)[attribute] = tensor

    @contextmanager
    def listening(self) -> Iterator[list[Listener]]:
        """Within the block the listeners stand in their modules' places."""
        for listener in self.listeners:
            listener.heard.clear()
            listener.losses.clear()
        for parent, child, listener in self.posts:
            parent._modules[child] = listener
        try:
            yield self.listeners
        finally:
            for parent, child, listener in self.posts:
                parent._modules[child] = listener.inner
