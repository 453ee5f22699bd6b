"""The whole-sequence form of leaky integrate-and-fire cells, forwards and backwards without a graph over time.

Letters as in ``functional.spiking``. With g[t] = dL/ds[t], F' the surrogate's slope at h[t] - theta, delta[t] =
dL/dh[t] and lambda[t] = dL/dv[t] (the last one comes from above, lambda[t-1] = leak delta[t]):

    delta[t] = g[t] F' + lambda[t] D[t],    D = 1 (soft),  1 - s (hard);  less theta F' or h F' through the reset
    dL/dx = delta,   dL/dleak = sum_t delta[t] v[t-1],   dL/dtheta = sum_t (lambda[t] R[t] - g[t] F')
    R = -s (soft),  0 (hard);  plus theta F' or h F' through the reset

Cells do not meet, so they are worked off in pieces that stay in the processor's cache for all T; of the whole sequence
only h is kept. One derivative: a second one is refused by torch. On a CUDA device the steps are a kernel's
(``functional.lif_kernels``), so that nothing but x, g, h, s and delta moves.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.functional import lif_kernels
from equipoise.functional.surrogates import surrogates

__all__ = ["run"]

PIECE = 1 << 16  # cells that each thread works off together on a CPU
Constant = float | int | Tensor


def _flat(constant: Constant, shape: Sequence[int]) -> Constant:
    """``constant`` for cells in a row: a number or 0-d as it is, else (M,)."""
    if isinstance(constant, Tensor) and constant.ndim:
        return constant.expand(shape).reshape(-1)
    return constant


def _of(constant: Constant, part: slice) -> Constant:
    return constant[part] if isinstance(constant, Tensor) and constant.ndim else constant


def _pieces(cells: int, device: torch.device) -> list[slice]:
    size = PIECE * torch.get_num_threads() if device.type == "cpu" else max(cells, 1)
    return [slice(start, start + size) for start in range(0, cells, size)]


def _add(a: Tensor, b: Tensor, times: Constant, sign: int, out: Tensor) -> None:
    """out = a + sign times b."""
    if isinstance(times, Tensor):
        torch.addcmul(a, b, times, value=sign, out=out)
    else:
        torch.add(a, b, alpha=sign * times, out=out)


def _walk(x: Tensor, v: Tensor, leak: Constant, theta: Constant, hard: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(spikes, last potential, h), the shapes of x, of v and of x."""
    flat, start = x.reshape(x.shape[0], -1), v.to(x.dtype).reshape(-1)
    h, s, last = torch.empty_like(flat), torch.empty_like(flat), torch.empty_like(start)
    leaks, thetas = _flat(leak, v.shape), _flat(theta, v.shape)
    if lif_kernels.serves(flat):
        lif_kernels.walk(flat, start, leaks, thetas, hard, h, s, last)
        return s.view(x.shape), last.view(v.shape), h.view(x.shape)
    for part in _pieces(flat.shape[1], x.device):
        a, threshold, before, after = _of(leaks, part), _of(thetas, part), start[part], last[part]
        for x_t, h_t, s_t in zip(flat[:, part].unbind(0), h[:, part].unbind(0), s[:, part].unbind(0), strict=True):
            _add(x_t, before, a, 1, h_t)
            torch.ge(h_t, threshold, out=s_t)
            if hard:
                torch.addcmul(h_t, h_t, s_t, value=-1, out=after)
            else:
                _add(h_t, s_t, threshold, -1, after)
            before = after
    return s.view(x.shape), last.view(v.shape), h.view(x.shape)


def _plain_piece(
    g: Tensor, g_last: Tensor | None, u: Tensor, leak: Constant, surrogate: str, sharpness: float
) -> Tensor:
    """delta (T, M) for the soft reset without a path through it: D = 1. Uses up ``u``."""
    step = surrogates[surrogate]
    delta = (step.pull_ or step.pull)(g, u, sharpness)
    rows = delta.unbind(0)
    if g_last is not None:
        rows[-1].add_(g_last)
    for after, before in zip(rows[:0:-1], rows[-2::-1], strict=True):
        _add(before, after, leak, 1, before)
    return delta


def _any_piece(
    g: Tensor,
    g_last: Tensor | None,
    h: Tensor,
    v: Tensor,
    leak: Constant,
    theta: Constant,
    hard: bool,
    through: bool,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(delta (T, M), dL/dleak (M,), dL/dtheta (M,)) for either reset."""
    s = (h >= theta).to(h.dtype)
    held = h if hard else theta * torch.ones_like(h)  # what a spike takes away
    own = held * slope if through else torch.zeros_like(h)
    keep = (1 - s if hard else torch.ones_like(h)) - own
    by_theta = own if hard else own - s
    delta = g * slope
    above = torch.zeros_like(v) if g_last is None else g_last
    to_theta = -delta.sum(0)
    to_leak = torch.zeros_like(v)
    potential = h - held * s
    for t in range(h.shape[0] - 1, -1, -1):
        delta[t].addcmul_(above, keep[t])
        to_theta.addcmul_(above, by_theta[t])
        to_leak.addcmul_(delta[t], potential[t - 1] if t else v)
        above = leak * delta[t]
    return delta, to_leak, to_theta


def _carry(
    g: Tensor,
    g_last: Tensor | None,
    h: Tensor,
    v: Tensor,
    leak: Constant,
    theta: Constant,
    hard: bool,
    surrogate: str,
    sharpness: float,
    through: bool,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The errors at x, at the first potential, and at the constants where they are ``wanted``."""
    errors, below, start = g.reshape(g.shape[0], -1), h.reshape(h.shape[0], -1), v.to(h.dtype).reshape(-1)
    last = None if g_last is None else g_last.reshape(-1)
    leaks, thetas = _flat(leak, v.shape), _flat(theta, v.shape)
    plain = not (hard or through or any(wanted))
    served = lif_kernels.serves(below, surrogate)
    pieces = [] if served else _pieces(below.shape[1], h.device)
    to_leak, to_theta = torch.empty_like(start), torch.empty_like(start)
    if served:
        own = (to_leak if wanted[0] else None, to_theta if wanted[1] else None)
        delta = lif_kernels.carry(errors, last, below, start, leaks, thetas, hard, surrogate, sharpness, through, *own)
    else:
        delta = torch.empty_like(below if len(pieces) != 1 else start)
    for part in pieces:
        a, threshold = _of(leaks, part), _of(thetas, part)
        g_part, h_part, end = errors[:, part], below[:, part], None if last is None else last[part]
        if plain:
            found = _plain_piece(g_part, end, h_part - threshold, a, surrogate, sharpness)
        else:
            slope = surrogates[surrogate].slope(h_part - threshold, sharpness)
            found, to_leak[part], to_theta[part] = _any_piece(
                g_part, end, h_part, start[part], a, threshold, hard, through, slope
            )
        if len(pieces) == 1:
            delta = found
        else:
            delta[:, part] = found
    back = delta.reshape(h.shape)
    constants = [
        flat.reshape(v.shape).sum_to_size(constant.shape) if want and isinstance(constant, Tensor) else None
        for flat, constant, want in zip((to_leak, to_theta), (leak, theta), wanted, strict=True)
    ]
    return back, leak * back[0], constants[0], constants[1]


def _gathered(value: Any, dim: int | None, axis: int, size: int) -> Any:
    """``value`` with the axis of ``vmap`` at ``axis``; repeated there if it has none."""
    if not isinstance(value, Tensor):
        return value
    if dim is None:
        return value.unsqueeze(axis).expand(*value.shape[:axis], size, *value.shape[axis:])
    return value.movedim(dim, axis)


def _gathered_constant(value: Any, dim: int | None, steps: Tensor, size: int) -> Any:
    """A constant of each member, shaped to broadcast with a step of all of them."""
    if not isinstance(value, Tensor):
        return value
    whole = _gathered(value, dim, 0, size)
    return whole.reshape(size, *(1,) * (steps.ndim - 1 - whole.ndim), *whole.shape[1:])


class _Back(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor,
        g_last: Tensor | None,
        h: Tensor,
        v: Tensor,
        leak: Constant,
        theta: Constant,
        hard: bool,
        surrogate: str,
        sharpness: float,
        through: bool,
        wanted: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return _carry(g, g_last, h, v, leak, theta, hard, surrogate, sharpness, through, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:  # type: ignore[override]
        g, g_last, h, v, leak, theta, *rest = args
        n = info.batch_size
        errors, below = _gathered(g, in_dims[0], 1, n), _gathered(h, in_dims[2], 1, n)
        last, start = _gathered(g_last, in_dims[1], 0, n), _gathered(v, in_dims[3], 0, n)
        a, threshold = (_gathered_constant(c, d, below, n) for c, d in ((leak, in_dims[4]), (theta, in_dims[5])))
        back, first, to_leak, to_theta = _Back.apply(errors, last, below, start, a, threshold, *rest)
        own = []
        for found, constant, dim in ((to_leak, leak, in_dims[4]), (to_theta, theta, in_dims[5])):
            shape = () if found is None else constant.shape if dim is None else constant.movedim(dim, 0).shape[1:]
            own.append(None if found is None else found.reshape(n, *shape))
        return (back, first, *own), (1, 0, None if own[0] is None else 0, None if own[1] is None else 0)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        v: Tensor,
        leak: Constant,
        theta: Constant,
        hard: bool,
        surrogate: str,
        sharpness: float,
        through: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _walk(x, v, leak, theta, hard)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, v, leak, theta, *ctx.rest = inputs
        h = output[2]
        ctx.mark_non_differentiable(h)
        ctx.set_materialize_grads(False)
        ctx.numbers = [None if isinstance(c, Tensor) else c for c in (leak, theta)]
        ctx.save_for_backward(h, v, *[c if isinstance(c, Tensor) else None for c in (leak, theta)])

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_last: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if g is None and g_last is None:
            return (None,) * 8
        h, v, *tensors = ctx.saved_tensors
        leak, theta = (c if n is None else n for c, n in zip(tensors, ctx.numbers, strict=True))
        wanted = (ctx.needs_input_grad[2], ctx.needs_input_grad[3])
        g = torch.zeros_like(h) if g is None else g
        back, first, to_leak, to_theta = _Back.apply(g, g_last, h, v, leak, theta, *ctx.rest, wanted)
        return back, first, to_leak, to_theta, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:  # type: ignore[override]
        x, v, leak, theta, *rest = args
        n = info.batch_size
        currents, start = _gathered(x, in_dims[0], 1, n), _gathered(v, in_dims[1], 0, n)
        a, threshold = (_gathered_constant(c, d, currents, n) for c, d in ((leak, in_dims[2]), (theta, in_dims[3])))
        return _Sequence.apply(currents, start, a, threshold, *rest), (1, 0, 1)


# ``Function.apply`` reads these signatures at every call; working them out would cost more than a small layer.
for _function in (_Back, _Sequence):
    _function.forward.__signature__ = inspect.signature(_function.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def run(
    x: Tensor,
    v: Tensor,
    leak: Constant,
    theta: Constant,
    hard: bool,
    surrogate: str,
    sharpness: float,
    through: bool,
) -> tuple[Tensor, Tensor]:
    """(spikes, last potential) of the currents ``x`` (T, S) from the potential ``v`` (S)."""
    spikes, last, _ = _Sequence.apply(x, v, leak, theta, hard, surrogate, sharpness, through)
    return spikes, last
