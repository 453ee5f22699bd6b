"""One forward pass on meta tensors, watched operation by operation.

Each activity carries a tensor of node ids of its own shape. Operations that move elements about are run on the ids
themselves; the others have a handler, found by name. An operation without one is a visible boundary. The pass is
watched at two levels: by function (``F.linear``, ``x.relu()``, ``x @ w``) and, beneath, by dispatch, which catches what
the first does not see, so that nothing passes unnoticed. Shapes are concrete, so that loops over time and tests of a
shape, at which ``torch.fx`` stops, run as they are written; what needs a value stops with its line.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from equipoise.balance import layers, layers_elementwise, layers_pooling, layers_recurrent, layers_shape
from equipoise.balance.builder import Builder
from equipoise.balance.examples import candidates, kept_as_it_is, outputs, stopped
from equipoise.balance.signals import Call, Signals, handlers
from equipoise.contracts import Scalable
from equipoise.errors import InputError

__all__ = ["trace"]

_HANDLERS = (layers, layers_elementwise, layers_pooling, layers_recurrent, layers_shape)  # what importing them enters
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty"})
_FILLED = frozenset({"tensor", "as_tensor", "scalar_tensor", "full", "full_like", "new_full", "new_tensor"})
_MOST_ZEROS = 1_000_000
_OPENED = (F.multi_head_attention_forward,)


def trace(model: nn.Module, example: Any, frozen: Sequence[str]) -> Builder:
    """The ledger of one forward pass of ``model``, on ``example`` or on the first guessed input that runs through."""
    Builder(model, frozen)  # what it refuses has nothing to do with the input
    failure: InputError | None = None
    for args, kwargs in candidates(model, example):
        try:
            return _traced(model, args, kwargs, frozen)
        except InputError as error:
            failure = failure or error
    if failure is None:
        raise InputError(f"no input shape can be guessed for {type(model).__name__}; pass example=")
    if example is None:
        raise InputError(f"{failure} (with a guessed input; pass example=)") from failure
    raise failure


def _traced(model: nn.Module, args: Any, kwargs: Any, frozen: Sequence[str]) -> Builder:
    watched = Trace(model, frozen)
    inputs, named = watched.entering(args), watched.entering(kwargs)
    try:
        with watched.watching():
            output = model(*inputs, **named)
    except Exception as error:
        raise stopped(error) from error
    found = [value for value in outputs(output) if watched.carries(value)]
    if not found:
        raise InputError(f"{type(model).__name__} returns nothing that the trace could follow back to its layers")
    for value in outputs(output):
        if (held := watched.held(value)) is not None:
            watched.builder.pin(held.name, "returned by the model")
    for value in found:
        watched.builder.fix(watched.gains(value), "output of the model")
    return watched.builder


class Trace(Signals):
    """The state of one watched pass: besides the signals, where in the model it is."""

    def __init__(self, model: nn.Module, frozen: Sequence[str]) -> None:
        super().__init__(model, frozen)
        self.model = model
        self.inside = False
        self._thread = threading.get_ident()
        self._names = {id(module): name for name, module in reversed(list(model.named_modules()))}
        self._path: list[nn.Module] = []
        self._closed: nn.Module | None = None

    def entering(self, inputs: Any) -> Any:
        """The model's inputs as meta tensors that are visible; whole numbers keep their values, for loops and sizes."""

        def enter(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                self.vary(value)
                return value
            twin = self.meta(value) if not value.is_meta else torch.empty_like(value)
            self.track(twin, self.builder.visible(twin.shape))
            return twin

        return tree_map(enter, inputs)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What the model computes inside is entered into the ledger; afterwards the model is as it was."""
        with ExitStack() as stack:
            stack.enter_context(kept_as_it_is(self.model))
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave).remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(_Unseen(self))
            stack.enter_context(_Seen(self))
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() == self._thread:
            self._path.append(module)
            if self._closed is None and isinstance(module, Scalable):
                self._closed = module

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if self._closed is module:
            self._closed = None
            with self._aside():
                gains = [self.gains(value) for value in args if isinstance(value, Tensor)]
                self.settle(output, module.scale_classes(self.builder, *gains))  # type: ignore[operator]
        self._path.pop()

    def place(self, function: str) -> tuple[str, str]:
        """The name of the place in the model where an operation runs, and the kind of operation that it is there."""
        module = self._path[-1] if self._path else self.model
        path = self._names.get(id(module), "")
        if type(module).__module__.startswith("torch.nn.modules") and not any(module.children()):
            return path, type(module).__name__
        return (f"{path}.{function}" if path else function), function

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation: on meta tensors where an activity or a parameter enters, as it is among constants."""
        leaves = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        name = _name(function)
        writes = (
            name.startswith(("__i", "__setitem")) if name.startswith("__") else name.endswith("_") or "out" in kwargs
        )
        moves = any(self.matters(value) or value.is_meta for value in leaves)
        if not moves and not (writes and any(self.owned(value) for value in leaves)):
            args, kwargs = tree_map(_on_the_host, (args, kwargs))
            with self._aside():
                made = self._made(name, function(*args, **kwargs))
            if any(self.varies(value) for value in leaves):
                tree_map(self.vary, (made, args[0] if writes else None))
            return made
        with self._aside():
            return self._entered(function, name, args, kwargs, leaves)

    def _entered(
        self, function: Callable[..., Any], name: str, args: Any, kwargs: Any, leaves: Sequence[Tensor]
    ) -> Any:
        """Run an operation on meta tensors and give its result the nodes that its handler finds."""
        if _reads_lengths(name, args):
            result = tree_map(self._twin, function(*tree_map(_zeros_for, args), **kwargs))
        else:
            result = function(*tree_map(self.meta, args), **tree_map(self.meta, kwargs))
        if self._closed is not None or not any(self.matters(value) for value in leaves):
            self.settle(result, None)
            return self._made(name, result)
        plain = name if name.startswith("__") else name.rstrip("_")
        call = Call(self, plain, self.place(name), args, kwargs, result, function)
        ids = handlers.get(call.name, _unknown)(call)
        written = [value for value in leaves if self.meta(value) is result]
        if written:
            return self._written(written[0], ids)
        self.settle(result, ids)
        return result

    def _twin(self, value: Any) -> Any:
        return self.meta(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """What runs inside is our own work, or torch's on our behalf, and not watched."""
        before, self.inside = self.inside, True
        try:
            yield
        finally:
            self.inside = before

    def _made(self, name: str, result: Any) -> Any:
        """A new constant; zeros carry nodes of their own, for any scale leaves them as they are."""
        if isinstance(result, Tensor) and result.is_floating_point() and result.numel() <= _MOST_ZEROS:
            empty = name in _FILLED and not result.is_meta and not bool(torch.count_nonzero(result))
            if name in _ZEROS or empty:
                self.zeros(result)
        return result

    def _written(self, target: Tensor, ids: Any) -> Tensor:
        """An operation wrote into ``target``: its views share its nodes, so that the old and the new are equal."""
        self.written(target)
        if isinstance(ids, Tensor) and self.held(target) is None:
            if self.carries(target) or target._is_view():
                self.builder.tie(ids, self.gains(target), "written into a visible tensor")
            self.track(target, ids)
        return target


class _Seen(TorchFunctionMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.trace.inside:
            return func(*args, **(kwargs or {}))
        if func in _OPENED:
            with self:
                return _open(func)(*args, **(kwargs or {}))
        return self.trace.run(func, tuple(args), kwargs or {})


class _Unseen(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.trace.inside:
            return func(*args, **(kwargs or {}))
        return self.trace.run(func, tuple(args), kwargs or {})


def _open(function: Any) -> Callable[..., Any]:
    """A function of torch's that is made of others, without the check at its head that hides them from the watch."""
    seen = {**function.__globals__, "has_torch_function": lambda *_: False}
    opened = types.FunctionType(function.__code__, seen, function.__name__, function.__defaults__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


def _name(function: Any) -> str:
    """The operation's name, one for its function, its method and its operator: relu, add, matmul, T."""
    name = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":
        return function.__self__.__name__
    return name.partition(".")[0]


def _reads_lengths(name: str, args: Any) -> bool:
    """Whether an operation on packed sequences needs the values of their lengths: it runs on zeros, not on meta."""
    packed = (
        name in ("rnn_relu", "rnn_tanh", "lstm", "gru") and isinstance(args[1], Tensor) and args[1].device.type == "cpu"
    )
    return name in ("_pack_padded_sequence", "_pad_packed_sequence") or (packed and args[1].dtype == torch.int64)


def _zeros_for(value: Any) -> Any:
    """Zeros in place of an activity or a parameter; whole numbers as they are."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype)
    return value


def _on_the_host(value: Any) -> Any:
    """Constants are made on the host, where their values can be seen."""
    meta = (isinstance(value, torch.device) and value.type == "meta") or (isinstance(value, str) and value == "meta")
    return torch.device("cpu") if meta else value


def _unknown(call: Call) -> Any:
    """An operation without a handler: what enters keeps its scale, what leaves is visible."""
    if not any(isinstance(value, Tensor) for value in tree_leaves(call.result)) and call.name != "__setitem__":
        return None
    values = [value for value in tree_leaves((call.args, call.kwargs)) if isinstance(value, Tensor)]
    call.bound(values, "not known to be positively homogeneous")
    return tree_map(lambda value: call.builder.visible(getattr(value, "shape", ())), call.result)
