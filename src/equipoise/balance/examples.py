"""What a trace needs around it: inputs to try, the model kept as it is, and an error that names the user's line."""

from __future__ import annotations

import copy
import linecache
import traceback
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.errors import InputError

__all__ = ["candidates", "kept_as_it_is", "outputs", "stopped"]

_LENGTHS = {1: (32, 128, 1024, 16000), 2: (32, 28, 224, 64, 96, 128, 256, 299), 3: (16, 32, 64, 112)}
_OURS = str(Path(__file__).parent)
_TORCHS = str(Path(torch.__file__).parent)


def candidates(model: nn.Module, example: Any) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The inputs to try, as positional and named arguments: the example, or guesses from the first layers."""
    if isinstance(example, dict):
        yield (), example
    elif isinstance(example, (tuple, list)):
        yield tuple(example), {}
    elif isinstance(example, Tensor):
        yield (example,), {}
    elif example is not None:
        raise InputError(f"example is a tensor, a tuple or a dict of tensors, not a {type(example).__name__}")
    else:
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        for module in [m for m in model.modules() if _knows_its_input(m)][:3]:
            for shape in _shapes(module):
                if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                    yield (torch.zeros(shape, dtype=torch.int64),), {}
                else:
                    times = 3 if module is model and isinstance(module, nn.MultiheadAttention) else 1
                    yield tuple(torch.empty(shape, dtype=dtype, device="meta") for _ in range(times)), {}


def _knows_its_input(module: nn.Module) -> bool:
    return next(iter(_shapes(module)), None) is not None


def _shapes(module: nn.Module) -> Iterator[tuple[int, ...]]:
    shape = getattr(module, "input_shape", None)
    if isinstance(shape, tuple):
        yield (2, *shape)
    elif isinstance(module, nn.Linear):
        yield from ((2, module.in_features), (2, 5, module.in_features))
    elif isinstance(module, nn.modules.conv._ConvNd):
        axes = len(module.kernel_size)
        yield from ((2, module.in_channels, *([length] * axes)) for length in _LENGTHS[axes])
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        axes = {"BatchNorm1d": 0, "BatchNorm2d": 2, "BatchNorm3d": 3}.get(type(module).__name__, 0)
        yield (2, module.num_features, *([32] * axes))
    elif isinstance(module, nn.LayerNorm):
        yield from ((2, *module.normalized_shape), (2, 5, *module.normalized_shape))
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield (2, 8)
    elif isinstance(module, nn.RNNBase):
        yield (2, 5, module.input_size)
    elif isinstance(module, nn.RNNCellBase):
        yield from ((2, module.input_size), (2, 5, module.input_size))
    elif isinstance(module, nn.MultiheadAttention):
        yield (2, 5, module.embed_dim)


@contextmanager
def kept_as_it_is(model: nn.Module) -> Iterator[None]:
    """Whatever a forward pass assigns to modules, notes in their lists and dicts, or draws, is undone at the end."""
    before = [(module, _state(module)) for module in model.modules()]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for module, (attributes, held) in before:
                module.__dict__.clear()
                module.__dict__.update(attributes)
                for inner, values in held:
                    inner.clear()
                    (inner.extend if isinstance(inner, list | deque) else inner.update)(values)


def _state(module: nn.Module) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """A module's attributes, and what those that are containers (of parameters, of anything it notes) hold."""
    containers = (dict, OrderedDict, defaultdict, list, set, deque)
    held = [(inner, copy.copy(inner)) for inner in module.__dict__.values() if type(inner) in containers]
    return dict(module.__dict__), held


def outputs(value: Any) -> Iterator[Tensor]:
    """Every tensor in what a model returned: in tuples, lists, dicts, dataclasses and plain objects."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, set)):
        for one in value:
            yield from outputs(one)
    elif isinstance(value, dict) or hasattr(value, "items"):
        for _, one in value.items():
            yield from outputs(one)
    elif is_dataclass(value):
        for one in fields(value):
            yield from outputs(getattr(value, one.name))
    elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)):
        yield from outputs(vars(value))


def stopped(error: Exception) -> InputError:
    """The one-line error of a forward pass that could not be traced, naming the line of the user's model."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_OURS, _TORCHS, "<"))]
    words = " ".join(str(error).split()) or type(error).__name__
    if not frames:
        return InputError(f"the model does not trace: {words}")
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    where = f"{Path(last.filename).name}:{last.lineno}"
    way_out = "pass an example= that fits, or declare the graph by hand (balance.Builder)"
    return InputError(f"the model does not trace at {where} `{line}`: {words}; {way_out}")
