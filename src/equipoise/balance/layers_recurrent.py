"""Layers of many weights: batch norm's affine, recurrent ReLU layers, scaled dot-product attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.balance.layers import add_bias
from equipoise.balance.signals import Call, handles

__all__: list[str] = []


@handles("batch_norm")
def _batch_norm(call: Call) -> Tensor:
    """y = gamma (x - mean) / sd + beta: gamma and beta are what goes into the channel, whatever the scale of x."""
    x, weight, bias = call.args[0], call.get(3, "weight"), call.get(4, "bias")
    call.bound([x], "normalises: the scale of what enters changes nothing", scale_free=True)
    held, shape = call.signals.held(weight), [1, x.shape[1], *([1] * (x.ndim - 2))]
    if held is None:
        call.bound([value for value in (weight, bias) if value is not None], "a computed or missing gain")
        return call.builder.visible(call.result.shape)
    ids = call.builder.units(held.name.rpartition(".")[0] or held.name, x.shape[1], [held.name])
    held.use(call.builder, ids, call.builder.visible())
    return add_bias(call, ids.reshape(shape).expand(call.result.shape), bias, 1)


def _cell(call: Call, x: Tensor, h: Tensor, weights: Any, biases: Any) -> None:
    """relu(W_ih x + b_ih + W_hh h + b_hh), for nodes x (I,) and h (H,): h's own loops carry exponent 0."""
    for below, weight, bias in zip((x, h), weights, biases, strict=True):
        held = call.signals.held(weight)
        if held is None:
            call.builder.fix(below, "meets a fixed weight")
            call.builder.fix(h, "meets a fixed weight")
        else:
            held.use(call.builder, h[:, None], below[None, :])
            call.builder.opened[-1].weights.append(held.name)
        add_bias(call, h, bias, 0)


@handles("rnn_relu")
def _rnn(call: Call) -> Any:
    if isinstance(call.args[3], (list, tuple)):  # a packed sequence: (data, batch_sizes, h0, weights, ...)
        x, start, weights, biased, layers, _, _, both = (call.args[0], *call.args[2:9])
        positions = [0]
    else:
        x, start, weights, biased, layers, _, _, both, _ = call.args
        positions = list(range(x.ndim - 1))
    ids = call.builder.tie_along(call.gains(x), positions, "meets the layer beside visible signals").reshape(-1)
    per, ways = (4 if biased else 2), (2 if both else 1)
    last = []
    for layer in range(layers):
        above = []
        for way in range(ways):
            mine = weights[(layer * ways + way) * per :][:per]
            path = (call.signals.held(mine[0]) or call.signals.held(mine[1])).name.rpartition(".")[0]  # type: ignore[union-attr]
            name = f"{path}.l{layer}{'_reverse' if way else ''}".lstrip(".")
            h = call.builder.units(name, mine[1].shape[0])
            _cell(call, ids, h, mine[:2], mine[2:] if biased else (None, None))
            call.builder.tie(h, call.gains(start)[layer * ways + way], "starts from a given state")
            above.append(h)
        ids = torch.cat(above)
        last += above
    result, state = call.result
    return ids.expand(result.shape), torch.stack(last)[:, None].expand(state.shape) if state.ndim == 3 else torch.stack(
        last
    )


@handles("_pack_padded_sequence", "_pad_packed_sequence")
def _packing(call: Call) -> Any:
    """Sequences of several lengths, one beside the other or padded with zeros: a feature carries one scale in all."""
    x = call.args[0]
    ids = call.builder.tie_along(call.gains(x), list(range(x.ndim - 1)), "packed with visible signals").reshape(-1)
    if call.name == "_pad_packed_sequence" and call.get(3, "padding_value", 0.0):
        call.bound([x], "padded with a constant")
    return [ids.expand(call.result[0].shape), None]


@handles("rnn_relu_cell")
def _rnn_cell(call: Call) -> Tensor:
    x, start, *weights = call.args
    held = call.signals.held(weights[0])
    why = "meets the layer beside visible signals"
    ids = call.builder.tie_along(call.gains(x), list(range(x.ndim - 1)), why).reshape(-1)
    h = call.builder.units((held.name if held else "").rpartition(".")[0], weights[1].shape[0])
    _cell(call, ids, h, weights[:2], weights[2:] if len(weights) == 4 else (None, None))
    call.builder.tie(h, call.gains(start), "starts from a given state")
    return h.expand(call.result.shape)


@handles("scaled_dot_product_attention")
def _attention(call: Call) -> Tensor:
    """softmax(q k^T) v: q and k scale against each other, v's classes pass."""
    q, k, v = (call.gains(call.get(at, name)) for at, name in enumerate(("query", "key", "value")))
    if call.kwargs.get("enable_gqa") and q.ndim > 2:
        k, v = (ids.repeat_interleave(q.shape[-3] // ids.shape[-3], -3) for ids in (k, v))
    scores = call.builder.combine([(1.0, q.unsqueeze(-2)), (1.0, k.unsqueeze(-3))])
    name, _ = call.place
    call.builder.bound(name, "softmax", [scores], "its input keeps its scale: queries scale against keys")
    mask = call.get(3, "attn_mask")
    if mask is not None and call.signals.matters(mask):
        call.bound([mask], "added to the scores")
    v = call.builder.tie_along(v, v.ndim - 2, "averaged with visible signals")
    return v.expand(call.result.shape)
