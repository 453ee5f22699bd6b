"""How ``OverTime`` runs a chain: what does not know time once a picture, a layer and its cells in one node.

Two short cuts, each exactly what the modules one by one compute, to rounding:

* *still*: a picture that is the same at every step gives the same currents at every step, so the parts before the first
  one that knows time see B rows in place of T B. ``ROW_WISE`` are the parts that treat each row by itself, along with
  any module that says ``row_wise = True``; batch normalisation has the same statistics with each row T times;
* *joined*: a module with ``joined(input, neuron, still)`` may answer for itself and the ``LIF`` behind it.

Whoever watches sees what there is without them: modules with hooks, passes under a rule's tape, ``torch.func``,
compilation, and chains that are anything but ``nn.Sequential``. ``stream`` is a chain a frame at a time. A part that
cannot take its rows says so by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from equipoise.errors import InputError
from equipoise.nn.onoff import OnOff
from equipoise.nn.spiking import LIF, folded

__all__ = ["ROW_WISE", "blame", "free", "run", "run_rows", "stream", "timed", "unwatched"]

ROW_WISE: tuple[type[nn.Module], ...] = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.Flatten, nn.Identity, OnOff),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU),
)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def free() -> bool:
    """Whether a pass is an ordinary one, in which modules need not be called one by one on all rows."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._are_functorch_transforms_active():  # pyright: ignore[reportAttributeAccessIssue]
        return False
    return all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def unwatched(module: nn.Module) -> bool:
    """Whether nobody would notice that ``module`` is not called, or sees fewer rows."""
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    everyones = (
        *(hooks._global_forward_hooks, hooks._global_forward_pre_hooks),
        *(hooks._global_backward_hooks, hooks._global_backward_pre_hooks),
    )
    return not any(own) and not any(everyones) and "forward" not in vars(module)


def _parts(net: nn.Module) -> Iterator[nn.Module]:
    """The modules of a chain in order, chains within it opened where they are not watched."""
    if type(net) is nn.Sequential and unwatched(net):
        for part in net:
            yield from _parts(part)
    else:
        yield net


def _same_rows(module: nn.Module) -> bool:
    """Whether each row of the output is a function of the same row of the input, without chance."""
    if type(module) in _DROPOUTS:
        return not (module.training and module.p)  # type: ignore[operator]
    if type(module) is nn.Flatten:
        return module.start_dim >= 1
    if type(module) in _NORMS:
        return not module.training and module.running_mean is not None
    return type(module) in ROW_WISE or bool(getattr(module, "row_wise", False))


def _still_norm(norm: Any, x: Tensor, steps: int) -> Tensor | None:
    """``norm`` in training on B rows that stand for ``steps`` each; None where that must be computed in full.

    Means and variances over N values are those over T N, but the running variance is unbiased: T N / (T N - 1) times
    the biased one, not N / (N - 1). It gets what T N values would have given it.
    """
    if type(norm) not in _NORMS or (norm.momentum is None and norm.track_running_stats):
        return None
    values = x.numel() // max(1, x.shape[1]) if x.ndim > 1 else 0
    if values < 2:
        return None
    if norm.running_var is None or not norm.training:
        return norm(x)
    own, weight = norm.running_var, float(norm.momentum)  # type: ignore[arg-type]
    norm.running_var = found = own.clone()  # what the layer's node keeps must not change behind its back
    try:
        out = norm(x)
    finally:
        norm.running_var = own
    with torch.no_grad():
        kept = own * (1 - weight)
        own.copy_(kept + (found - kept) * (steps * (values - 1) / (steps * values - 1)))
    return out


def _still(module: nn.Module, x: Tensor, steps: int) -> Tensor | None:
    """``module`` on B rows in place of T B; None where it must see all."""
    if not unwatched(module):
        return None
    return module(x) if _same_rows(module) else _still_norm(module, x, steps)


def _repeated(x: Tensor, steps: int) -> Tensor:
    return folded(x.expand(steps, *x.shape))


def blame(error: Exception, part: nn.Module, x: Tensor) -> NoReturn:
    """Raise the ``error`` of ``part`` at the rows ``x`` that is being handled, so that ``OverTime`` can name the part.

    An ``InputError`` keeps the innermost part; a complaint of one of torch's own layers about its rows becomes one.
    Everything else stays what it is.
    """
    rows = isinstance(error, RuntimeError | IndexError | ValueError | TypeError) and not isinstance(
        error, InputError | torch.OutOfMemoryError
    )
    if rows and type(part) in (*ROW_WISE, *_DROPOUTS, *_NORMS):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        found = InputError(f"{type(part).__name__} cannot take rows of shape {tuple(x.shape)}: {reason}")
        found.part = part  # type: ignore[attr-defined]
        raise found from error
    if isinstance(error, InputError) and not hasattr(error, "part"):
        error.part = part  # type: ignore[attr-defined]
    raise error


def _next(chain: list[nn.Module], k: int, x: Tensor, steps: int, still: bool) -> tuple[Tensor, bool, int]:
    """The k-th part of the chain on ``x``: (its output, whether that is still, how many parts are done)."""
    part, behind = chain[k], chain[k + 1] if k + 1 < len(chain) else None
    joined = getattr(part, "joined", None)
    if joined is not None and type(behind) is LIF and unwatched(part) and unwatched(behind):
        spikes = joined(x, behind, still)
        if spikes is not None:
            return spikes, False, 2
    if still:
        same = _still(part, x, steps)
        if same is not None:
            return same, True, 1
        if type(part) is LIF and part.steps is not None and unwatched(part):
            return folded(part.sequence(x.expand(steps, *x.shape))[0]), False, 1
        x = _repeated(x, steps)
    return part(x), False, 1


def run(net: nn.Module, x: Tensor, steps: int, still: bool) -> Tensor:
    """``net`` on the rows ``x``, time-major: T B of them, or with ``still`` B, each for all ``steps``; out T B rows."""
    chain, k = list(_parts(net)), 0
    while k < len(chain):
        try:
            x, still, done = _next(chain, k, x, steps, still)
        except Exception as error:
            blame(error, chain[k], x)
        k += done
    return _repeated(x, steps) if still else x


def timed(model: nn.Module) -> Iterator[Any]:
    """Everything in ``model`` that knows the number of steps."""
    return (module for module in model.modules() if hasattr(module, "steps"))


def stream(module: nn.Module, x: Tensor, states: dict[str, Any], after: dict[str, Any], name: str) -> Tensor:
    """``module`` on one frame (B, ...), from ``states`` by the names of its parts; the next ones go into ``after``."""
    if getattr(module, "step", None) is None and isinstance(module, nn.Sequential):
        for child, part in module.named_children():
            x = stream(part, x, states, after, f"{name}.{child}")
        return x
    try:
        if getattr(module, "step", None) is not None:
            x, after[name] = module.step(x, states.get(name))  # type: ignore[operator]
            return x
        if any(True for _ in timed(module)):
            raise InputError(f"{type(module).__name__} holds spiking cells and is no nn.Sequential: no stream")
        return module(x)
    except Exception as error:
        blame(error, module, x)


def run_rows(net: nn.Module, x: Tensor) -> Tensor:
    """``net`` on the rows ``x`` (T B, ...), for modules that hold chains of their own: ``run`` where nobody watches."""
    return run(net, x, 1, False) if free() else net(x)
