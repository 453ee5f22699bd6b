"""Errors carried down a chain by hand: the same numbers as by autograd, without its graph.

What carries them, transposed weights, other matrices or inverses, is the rule's own (``Carry``). On dense networks
autograd's bookkeeping and a watching mode cost up to a fifth of a step; here a step is its matrix products, one pass
over each activity for the derivative, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.functional.activations import unit
from equipoise.functional.losses import Loss
from equipoise.rules.links import (
    Link,
    Part,
    apply,
    bias_gradient,
    read_chain,
    weight_gradient,
    weighted,
)
from equipoise.rules.slots import Slots
from equipoise.rules.tape import serve_dropout

__all__ = ["DERIVATIVES", "Carry", "announce", "dense_links", "descend", "errs", "unwatched"]

# (index of the link, the error at its sums, the error at the output, its input) -> the error at its input, None: none.
Carry = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]

_aten = torch.ops.aten
# f'(z) (.) g from the activity f(z).
DERIVATIVES: dict[type[nn.Module], Callable[[Tensor, Tensor, Any], Tensor]] = {
    nn.ReLU: lambda g, h, _: _aten.threshold_backward(g, h, 0),
    nn.Tanh: lambda g, h, _: _aten.tanh_backward(g, h),
    nn.Sigmoid: lambda g, h, _: _aten.sigmoid_backward(g, h),
    nn.LeakyReLU: lambda g, h, module: _aten.leaky_relu_backward(g, h, module.negative_slope, True),
    nn.Identity: lambda g, h, _: g,
}


def dense_links(model: nn.Module, slots: Slots) -> tuple[Link, ...]:
    """The links of a chain of matrices whose other parts have a derivative here; none for any other model."""
    if slots.listeners:
        return ()
    try:
        links = read_chain(model, slots)
    except ValueError:
        return ()
    known = all(part.number >= 0 or type(part.module) in DERIVATIVES for link in links for part in link.after)
    flat = all(type(part.module) is nn.Flatten and part.module.start_dim == 1 for part in links[0].before)
    plain = flat and not any(link.before for link in links[1:]) and all(link.dense for link in links)
    slopes = all(getattr(part.module, "negative_slope", 1) > 0 for link in links for part in link.after)
    return links if known and plain and slopes else ()


def unwatched(model: nn.Module, x: Tensor) -> bool:
    """Whether nobody would notice that layers are not called: no hooks, no autocast, a matrix of samples."""
    if torch.is_autocast_enabled(x.device.type) or x.requires_grad:
        return False
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks or "forward" in vars(m)
        for m in model.modules()
    )


def announce(model: nn.Module, x: Tensor, *, fresh: bool) -> None:
    """Run the model for those who listen to its layers, where a rule runs them by hand."""
    if fresh and not unwatched(model, x):
        model(x)


def _down(part: Part, g: Tensor, h: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
    """The error at a part's input from that at its output h."""
    if part.number >= 0:
        rate = float(part.module.p)  # type: ignore[arg-type]
        return serve_dropout(g, noise[f"dropout{part.number}"], rate) if part.module.training and rate else g
    known = DERIVATIVES.get(type(part.module))
    return g * unit(part.module).slope(h) if known is None else known(g, h, part.module)


def errs(loss: Loss, output: Tensor, y: Tensor, pure: bool) -> tuple[Tensor, Tensor]:
    """The loss and its error, from one evaluation where that is less; ``pure``: under ``torch.func``."""
    if loss.both is not None and not pure and y.ndim == 1 and not y.is_floating_point():
        return loss.both(output, y)
    if loss.residual or pure:
        return loss.value(output, y), loss.error(output, y)
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        value = loss.value(leaf, y)
        return value.detach(), torch.autograd.grad(value, leaf)[0]


def descend(
    links: tuple[Link, ...],
    x: Tensor,
    y: Tensor,
    tensors: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    loss: Loss,
    carry: Carry,
    write: Callable[[str, Tensor], None],
    *,
    pure: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the chain, write each layer's gradients from the output down, and return (loss, output).

    Parts in front of a layer but the first only give its input another shape. ``pure``: within ``torch.func``.
    """
    inputs: list[Tensor] = []
    shapes: list[torch.Size] = []
    activities: list[list[Tensor]] = []
    for link in links:
        shapes.append(x.shape)
        for part in link.before:
            x = apply(part, x, noise)
        inputs.append(x)
        x = weighted(link, x, tensors[link.weight], None if link.bias is None else tensors[link.bias])
        kept: list[Tensor] = []
        for part in link.after:
            x = apply(part, x, noise, fresh=not kept)
            kept.append(x)
        activities.append(kept)
    value, error = errs(loss, x, y, pure)
    g = error
    for k in reversed(range(len(links))):
        link, h = links[k], inputs.pop()
        write(link.weight, weight_gradient(link, g, h, tensors[link.weight]))
        if link.bias is not None:
            write(link.bias, bias_gradient(link, g, tensors[link.bias]))
        down = carry(k, g, error, h) if k else None
        if down is None:
            break
        g = down.reshape(shapes[k])
        del down, h
        activities.pop()
        for part, activity in zip(reversed(links[k - 1].after), reversed(activities[-1]), strict=True):
            g = _down(part, g, activity, noise)
    return value, x
