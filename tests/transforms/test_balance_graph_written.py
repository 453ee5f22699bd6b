"""Networks as people write them: packed sequences, buffers written into, rotated positions, products of all kinds.

A failure is a network of an ordinary style that balance changes, or one that it could balance and does not.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling import Net, draw, free

Linear = nn.Linear


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def packed(s: Net, x: Tensor) -> Tensor:
    """Sequences of 3 and 5 steps through a recurrent layer."""
    pieces = nn.utils.rnn.pack_padded_sequence(
        s.i(x).relu(), torch.tensor([3, 5]), batch_first=True, enforce_sorted=False
    )
    out, _ = nn.utils.rnn.pad_packed_sequence(s.r(pieces)[0], batch_first=True)
    return s.o(out.sum(1))


def rotary(s: Net, x: Tensor) -> Tensor:
    """Attention with rotated queries and keys: the two halves of a rotated pair turn into one another."""
    angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1])

    def turned(h: Tensor) -> Tensor:
        a, b = h.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

    return s.o((turned(s.q(x)) @ turned(s.k(x)).mT).softmax(-1) @ s.v(x))


def grouped(s: Net, x: Tensor) -> Tensor:
    """Four heads of queries on two of keys and values."""
    q, k, v = (part(x).view(2, 5, -1, 2).transpose(1, 2) for part in (s.q, s.k, s.v))
    return s.o(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).reshape(2, 5, 8))


def half_written(s: Net, x: Tensor) -> Tensor:
    """Zeros, two columns of which are written; the rest stay zeros."""
    h = torch.zeros(2, 5, 4)
    h[..., :2] = s.a(x).relu()
    return s.o(h + s.b(x))


def copied_in(s: Net, x: Tensor) -> Tensor:
    """The same through a view, into zeros that lie on the host."""
    h = torch.zeros(2, 5, 4)
    h[..., :2].copy_(s.a(x).relu())
    return s.o(h + s.b(x))


class Indexed(nn.Module):
    """Columns picked by a buffer, one further: the columns of the first part and one of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = Linear(3, 4), Linear(2, 2)
        self.register_buffer("index", torch.tensor([0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.a(x).relu()[..., self.index + 1])


WRITTEN = {
    "copied in": (Net(copied_in, a=Linear(3, 2), b=Linear(3, 4), o=Linear(4, 2)), 4),
    "picked by a buffer": (Indexed(), 4),
    "rectified weights": (Net(lambda s, x: s.o(F.linear(x, s.w.relu())), w=draw(4, 3), o=Linear(4, 2)), 4),
    "half written": (Net(half_written, a=Linear(3, 2), b=Linear(3, 4), o=Linear(4, 2)), 4),
    "packed sequences": (Net(packed, i=Linear(3, 3), r=nn.RNN(3, 4, nonlinearity="relu", batch_first=True), o=Linear(4, 2)), 7),
    "packed, gated": (Net(packed, i=Linear(3, 3), r=nn.LSTM(3, 4, batch_first=True), o=Linear(4, 2)), 0),
    "rotary positions": (Net(rotary, q=Linear(3, 4), k=Linear(3, 4), v=Linear(3, 4), o=Linear(4, 2)), 2 + 4),
    "grouped heads": (Net(grouped, q=Linear(3, 8), k=Linear(3, 4), v=Linear(3, 4), o=Linear(8, 2)), 4 + 4),
    "relative positions": (
        Net(lambda s, x: s.o((s.q(x) @ s.k(x).mT + s.b).softmax(-1) @ s.v(x)), b=draw(5, 5), q=Linear(3, 4), k=Linear(3, 4), v=Linear(3, 4), o=Linear(4, 2)),
        4 + 4,
    ),
    "ordered": (Net(lambda s, x: s.o(s.a(x).topk(2, -1)[0]), a=Linear(3, 8), o=Linear(2, 2)), 1),
    "picked by another": (
        Net(lambda s, x: s.o(s.a(x).gather(-1, s.b(x).argmax(-1, keepdim=True))), a=Linear(3, 4), b=Linear(3, 4), o=Linear(1, 2)),
        1,
    ),
    "largest of pairs": (Net(lambda s, x: s.o(s.a(x).view(2, 5, 4, 2).max(-1)[0]), a=Linear(3, 8), o=Linear(4, 2)), 4),
    "einsum": (Net(lambda s, x: s.o(torch.einsum("...i,oi->...o", x, s.w).relu()), w=draw(4, 3), o=Linear(4, 2)), 4),
    "products": (Net(lambda s, x: s.o(torch.addmm(s.b, x[0], s.w).relu()), b=draw(4), w=draw(3, 4), o=Linear(4, 2)), 4),
    "from the left": (Net(lambda s, x: (s.u @ (s.w @ x.mT).relu()).mT, w=draw(4, 3), u=draw(2, 4)), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_networks_as_people_write_them(name: str) -> None:
    net, count = WRITTEN[name]
    assert free(net.double(), draw(2, 5, 3)) == count
