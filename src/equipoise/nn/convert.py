"""Replacing the layer normalisation of an existing model by inhibition that does the same, and says where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.nn.conversions import (
    Converted,
    ConvertReport,
    Pair,
    Skipped,
    difference,
    is_norm,
    outputs,
    pairs,
    places,
)
from equipoise.nn.inorm import INormConv2d, INormLinear
from equipoise.nn.inorm_options import INormOptions
from equipoise.nn.lateral import LateralNorm
from equipoise.nn.tonic import Gain, Tonic
from equipoise.randomness import derive

__all__ = ["convert"]

# Above this, a fused pair does not compute what the two layers did: the norm ran over another axis.
CLOSE = 1e-3
OTHERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm)


class _Unfit(Exception):
    """Why a pair cannot be fused."""


@torch.no_grad()
def convert(
    model: nn.Module,
    example: Tensor | None = None,
    *,
    inplace: bool = False,
    **options: Unpack[INormOptions],
) -> tuple[nn.Module, ConvertReport]:
    """``model`` with inhibition in place of layer normalisation, and a report of what was converted and what was not.

    A Linear, or a Conv2d, whose output goes into a LayerNorm over its units and nowhere else becomes one
    ``INormLinear`` or ``INormConv2d`` that computes the same now: with weights W and any vector r,

        LN(W h + c) = LN((W + 1 r^T) h + c)

    so that r = max(0, -min over units of W) makes the excitatory weights non-negative wherever the inputs are. Dale's
    law then holds (``dale=True``) where h cannot be negative: on ``example`` if it is given, else by the layer before.
    Elsewhere weights keep their signs, and the report says so. A bias c that is not the same for all units becomes
    weights from a ``Tonic`` cell; a LayerNorm's gain that is not 1 becomes a ``Gain`` behind the layer, its bias the
    layer's own. Any other LayerNorm becomes a ``LateralNorm``: fixed weights from its own units (``pools``,
    ``pooling``; "equal" has no error). Norms of other kinds stay.

    options: of ``nn.INormLinear``; GradNorm is "center" where they do not say otherwise, without which such networks
    learn badly; ``pools``, ``pooling`` and ``seed`` are also those of ``LateralNorm``. A copy is converted unless
    ``inplace``. Hold the constraints with ``nn.enforce``. Raises ``InputError`` for options that decide what the
    model's own layers decide.
    """
    for name in ("bias", "dale", "eps"):
        if name in options:
            raise InputError(f"'{name}' of a converted layer comes from the layer itself; leave it out")
    target = model if inplace else copy.deepcopy(model)
    before = outputs(target, example)
    seen = _watch(target, example)
    modules = dict(target.named_modules())
    given: dict[str, Any] = {"gradnorm": "center"} | dict(options)
    pools, pooling, seed = given.get("pools", 1), given.get("pooling", "uniform"), given.get("seed", 0)
    done: list[Converted] = []
    skipped: list[Skipped] = []
    fused: set[int] = set()
    for pair in pairs(target):
        layer, norm = modules[pair.layer], modules[pair.norm]
        try:
            new, one = _fuse(target, pair, seen, given | {"seed": derive(seed, "convert", pair.layer)})
        except _Unfit as why:
            skipped.append(Skipped(pair.layer, f"not fused with {pair.norm}: {why}"))
            continue
        _put(target, layer, new)
        _put(target, norm, nn.Identity())
        fused.add(id(norm))
        done.append(one)
    for name, norm in modules.items():
        if id(norm) in fused:
            continue
        if is_norm(norm):
            new, told = _free(norm, seen.get(name), pools, pooling, derive(seed, "convert", name))
            if new is None:
                skipped.append(Skipped(name, told))
                continue
            if not name:
                target = new
            _put(target, norm, new)
            error = None if name not in seen else difference(new(seen[name][0]), seen[name][1])
            done.append(Converted(name or "the model", name, "LateralNorm", None, (told,), error))
        elif isinstance(norm, (*OTHERS, *_rms())):
            skipped.append(Skipped(name, f"{type(norm).__name__} is no layer normalisation"))
    after = outputs(target, example)
    error = None if before is None or after is None else float((after - before).abs().max())
    return target, ConvertReport(tuple(done), tuple(skipped), error)


def _rms() -> tuple[type, ...]:
    return (nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()


def _watch(model: nn.Module, example: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of every module on the example, the last time that it ran."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(output, Tensor):
                seen[name] = (given[0].clone(), output.clone())

        return hook

    watched = [(n, m) for n, m in model.named_modules() if is_norm(m) or isinstance(m, (nn.Linear, nn.Conv2d))]
    hooks = [module.register_forward_hook(keep(name)) for name, module in watched]
    try:
        outputs(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent, attribute in places(model, old):
        parent._modules[attribute] = new
    new.train(old.training)


def _affine(norm: nn.Module) -> tuple[Tensor | None, Tensor | None, float]:
    """Gain, bias and eps of a normalisation."""
    gain, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return gain, bias, float(norm.eps)  # type: ignore[arg-type]


def _fuse(
    model: nn.Module, pair: Pair, seen: Mapping[str, tuple[Tensor, Tensor]], options: dict[str, Any]
) -> tuple[nn.Module, Converted]:
    layer, norm = model.get_submodule(pair.layer), model.get_submodule(pair.norm)
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    conv, weight = isinstance(layer, nn.Conv2d), layer.weight
    dim, units = (-3 if conv else -1), layer.weight.shape[0]
    _check(model, layer, norm, units, conv=conv)
    gain, shift, eps = _affine(norm)
    notes: list[str] = []
    ahead: list[nn.Module] = []
    drive = weight.detach()
    if layer.bias is not None and bool((layer.bias != layer.bias[0]).any()):
        drive, told = _with_bias(layer, drive)
        ahead.append(Tonic(dim=dim))
        notes.append(told)
    low = float(seen[pair.layer][0].min()) if pair.layer in seen else None
    dale = pair.rates if low is None else low >= 0
    if dale:
        moved = (-drive.amin(0)).clamp(min=0)
        drive = drive + moved
        if bool(moved.any()):
            notes.append("a row was added to all units' weights, which normalisation takes away, to make them >= 0")
    else:
        notes.append("its input may be negative" if low is None else f"its input reaches {low:.3g}")
    plain = gain is None or bool((gain == 1).all())
    own = shift is not None and plain
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(options["seed"])
        circuit = _circuit(layer, drive, bias="after" if own else None, eps=eps, dale=dale, options=options)
        circuit.to(drive.device, drive.dtype).weight_ee.copy_(drive)
        circuit.idealise_()
    if own:
        assert shift is not None
        assert circuit.bias is not None
        circuit.bias.copy_(shift)
    behind = []
    if gain is not None and not plain:
        behind.append(Gain(gain, shift, dim=dim))
        notes.append("the normalisation's gain stays, behind the circuit")
    new = nn.Sequential(*ahead, circuit, *behind) if ahead or behind else circuit
    error = None
    if pair.layer in seen and pair.norm in seen:
        error = difference(new(seen[pair.layer][0]), seen[pair.norm][1])
        if error > CLOSE:
            raise _Unfit(f"they would differ by {error:.1e} on the example: the norm is not over the layer's units")
    return new, Converted(pair.layer, pair.norm, type(circuit).__name__, dale, tuple(notes), error)


def _circuit(
    layer: nn.Linear | nn.Conv2d, drive: Tensor, *, options: dict[str, Any], **own: Any
) -> INormLinear | INormConv2d:
    given: dict[str, Any] = options | own
    if isinstance(layer, nn.Linear):
        return INormLinear(drive.shape[1], drive.shape[0], **given)
    kernel: Any = layer.kernel_size
    stride: Any = layer.stride
    padding: Any = layer.padding
    return INormConv2d(drive.shape[1], drive.shape[0], kernel, stride=stride, padding=padding, **given)


def _check(model: nn.Module, layer: nn.Linear | nn.Conv2d, norm: nn.Module, units: int, *, conv: bool) -> None:
    """Raise ``_Unfit`` unless the pair has the form that a circuit has."""
    if units < 2:
        raise _Unfit("one unit has nothing to be normalised over")
    if isinstance(norm, nn.LayerNorm):
        if tuple(norm.normalized_shape) != (units,):
            raise _Unfit(f"it normalises {tuple(norm.normalized_shape)}, not the layer's {units} units")
        if conv and type(norm) is nn.LayerNorm:
            raise _Unfit("nn.LayerNorm runs over the last axis, and channels are not that; use one over channels")
    elif getattr(norm, "dim", -1) != (-3 if conv else -1):
        raise _Unfit(f"it normalises axis {getattr(norm, 'dim', -1)}, which is not the layer's units")
    if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or set(layer.dilation) != {1}):
        raise _Unfit("grouped and dilated convolutions have no circuit")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise _Unfit(f"padding with '{layer.padding_mode}' has no circuit")
    if "weight" not in layer._parameters or layer._forward_hooks or layer._forward_pre_hooks:
        raise _Unfit("its weight is computed (a parametrisation), or it has hooks")
    names = [name for name, one in model.named_parameters(remove_duplicate=False) if one is layer.weight]
    if len(names) > 1:
        raise _Unfit(f"its weight is shared with {', '.join(names[1:])}")


def _with_bias(layer: nn.Linear | nn.Conv2d, drive: Tensor) -> tuple[Tensor, str]:
    """``drive`` with the bias as weights from one more input that is always 1."""
    assert layer.bias is not None
    bias = layer.bias.detach()
    if isinstance(layer, nn.Linear):
        return torch.cat([drive, bias[:, None]], 1), "its bias is now weights from a Tonic cell"
    kernel = drive.new_zeros(drive.shape[0], 1, *drive.shape[2:])
    height, width = drive.shape[2] // 2, drive.shape[3] // 2
    padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0) if layer.padding == "valid" else None
    # Zero padding silences the Tonic cell outside the image, so its kernel's one tap has to lie inside it everywhere.
    if padding is not None and any(
        p > half or p > k - 1 - half for p, half, k in zip(padding, (height, width), drive.shape[2:], strict=True)
    ):
        raise _Unfit("its bias differs between channels, and its padding reaches past the middle of the kernel")
    kernel[:, 0, height, width] = bias
    return torch.cat([drive, kernel], 1), "its bias is now weights from a Tonic cell"


def _free(
    norm: nn.Module, seen: tuple[Tensor, Tensor] | None, pools: int, pooling: str, seed: int
) -> tuple[LateralNorm | None, str]:
    """A ``LateralNorm`` for a LayerNorm that stands alone, and how far it is off; or None, and why."""
    gain, bias, eps = _affine(norm)
    if isinstance(norm, nn.LayerNorm):
        if len(norm.normalized_shape) != 1:
            return None, f"it normalises {tuple(norm.normalized_shape)} at once; pools are over one axis of units"
        if type(norm) is not nn.LayerNorm:
            return None, f"{type(norm).__name__} may normalise another axis than the last; pools are over the last"
        units = norm.normalized_shape[0]
    elif getattr(norm, "dim", -1) != -1:
        return None, "it normalises channels; pools are over the last axis"
    elif seen is None:
        return None, "how many units it has is not known without an example"
    else:
        units = seen[0].shape[-1]
    if units < 2:
        return None, "one unit has nothing to be normalised over"
    new = LateralNorm(units, pools, pooling, eps=eps, affine=gain is not None, seed=seed)
    if gain is not None and new.weight is not None and new.bias is not None:
        new.to(gain.device, gain.dtype)
        new.weight.copy_(gain)
        new.bias.copy_(torch.zeros_like(gain) if bias is None else bias)
    off = float((units * new.nu.double() - 1).square().mean().sqrt()) / units**0.5
    return new, f"pools {units} units of its own; its mean is off by {off:.2g} standard deviations or so"
