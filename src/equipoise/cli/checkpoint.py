"""Weights in a file: read without running code, laid into a model, written back under the names that they had."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import models
from equipoise.errors import InputError, StorageError
from equipoise.train import Run, storage

__all__ = ["Checkpoint", "fill", "gather", "read", "trained", "write"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
# Where training scripts put the state dict, and what wrappers put before every name.
INSIDE = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.", "model.")
SHOWN = 3


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weights file by the name that they have in it, and what else a safetensors file says."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Checkpoint:
    """The weights in ``path``: safetensors, or a state dict that ``torch.save`` wrote, loaded as data alone.

    Raises ``InputError`` for a file that is missing, damaged, of another kind, or that could only be read by running
    code.
    """
    if not path.is_file():
        raise InputError(f"there is no file '{path}'")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in PICKLES:
        return Checkpoint(path, _state_dict(path))
    raise InputError(f"'{path}' has an unknown ending; weights are read from .safetensors, {', '.join(PICKLES)}")


def trained(run: Run, folder: str | Path) -> nn.Module:
    """The network of a run that has finished under ``folder``, in evaluation mode."""
    model = models.make(run.model, seed=run.seed)
    model.load_state_dict(storage.read_weights(run.folder(folder) / "weights.safetensors"))
    return model.eval()


def _safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        tensors = storage.read_weights(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (StorageError, SafetensorError) as error:
        raise InputError(f"{_line(error)}; the file is damaged or is no safetensors") from None
    return Checkpoint(path, tensors, metadata)


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(
                f"'{path}' holds more than tensors, and reading it would run code, which is not done; "
                "save model.state_dict(), or safetensors"
            ) from None
        raise InputError(f"'{path}' is damaged or was not written by torch.save") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"'{path}' is damaged: {_line(error)[:120]}") from None
    for key in INSIDE:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not all(isinstance(v, Tensor) for v in value.values()) or not value:
        raise InputError(f"'{path}' holds no state dict (tensors by name); save model.state_dict()")
    return {str(name): tensor for name, tensor in value.items()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _some(names: Iterable[str]) -> str:
    """The first few of ``names``, and how many there are besides."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _state(model: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters and buffers by name, a tied one under each of its names."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _names(model: nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """From the model's names to the file's, where a wrapper may have put one word before all of them.

    A tensor that the model holds under several names may stand in the file under one of them.
    """
    state = _state(model)
    for wrapper in ("", *WRAPPERS):
        inner = {name.removeprefix(wrapper): name for name in checkpoint.tensors if name.startswith(wrapper)}
        if len(inner) == len(checkpoint.tensors) and set(inner) <= set(state):
            break
    else:
        inner = {name: name for name in checkpoint.tensors}
    held = {id(state[name]) for name in inner if name in state}
    missing = [name for name, value in state.items() if name not in inner and id(value) not in held]
    unexpected = [name for name in inner if name not in state]
    if missing or unexpected:
        said = [f"missing are {_some(missing)}"] * bool(missing) + [f"unexpected are {_some(unexpected)}"] * bool(
            unexpected
        )
        raise InputError(
            f"'{checkpoint.path}' does not fit the model: {'; '.join(said)}; "
            "name the model that these weights are of with --model"
        )
    return inner


@torch.no_grad()
def fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give ``model`` the weights themselves, no copies, in the precision that they have in the file.

    Raises ``InputError`` for names or shapes that do not match, weights that are no floating-point numbers, and
    tensors that are one in the model and differ in the file.
    """
    inner, state = _names(model, checkpoint), _state(model)
    found = {name: checkpoint.tensors[key] for name, key in inner.items()}
    wrong = [name for name, tensor in found.items() if tensor.shape != state[name].shape]
    if wrong:
        said = (f"{n} is {tuple(found[n].shape)} where the model has {tuple(state[n].shape)}" for n in wrong)
        raise InputError(f"'{checkpoint.path}' does not fit the model: {_some(said)}")
    whole = [name for name in found if isinstance(state[name], nn.Parameter) and found[name].dtype not in FLOATS]
    if whole:
        said = (f"{name} is {str(found[name].dtype).removeprefix('torch.')}" for name in whole)
        raise InputError(
            f"'{checkpoint.path}': {_some(said)}; balance scales weights in float16, bfloat16, float32 or float64, "
            "so balance before quantising"
        )
    laid: dict[int, str] = {}
    for name, tensor in found.items():
        before = laid.setdefault(id(state[name]), name)
        if before != name and not torch.equal(found[before], tensor):
            raise InputError(
                f"'{checkpoint.path}': {before} and {name} are one tensor in the model, and differ in the file"
            )
        state[name].data = tensor


def gather(model: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The model's tensors under the names, and in the precision, that the file has.

    Raises ``InputError`` where a weight is too large for that precision.
    """
    state, found = _state(model), {}
    for name, key in _names(model, checkpoint).items():
        old, new = checkpoint.tensors[key], state[name].detach().cpu()
        found[key] = kept = new.to(old.dtype)
        if old.dtype in FLOATS and not torch.equal(new.isfinite(), kept.isfinite()):
            kind, most = str(old.dtype).removeprefix("torch."), float(new.abs().max())
            raise InputError(f"{key} reaches {most:.3g}, beyond {kind}; convert the file to float32, then balance")
    return found


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors``, whole or not at all, in the format that the ending of ``path`` names."""
    plain: dict[str, Any] = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if path.suffix in PICKLES:
        buffer = io.BytesIO()
        torch.save(plain, buffer)
        storage.write_bytes(path, buffer.getvalue())
        return
    from safetensors.torch import save

    storage.write_bytes(path, save(plain, dict(metadata) or None))
