"""Networks under a random rescaling from their scaling graph: in float64 the output stays as it is, to 1e-12.

A failure means that ``balance_`` would change somebody's trained network. The numbers of free log-scales are counted
by hand from the architecture: one for each unit, less what additions, shared weights and boundaries tie. A graph that
scaled nothing would keep every function too; the counts are there for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nn import BiPU, LocallyConnected2d
from scaling import Net, draw, free, unchanged

Linear, Conv = nn.Linear, nn.Conv2d


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def heads(s: Net, x: Tensor) -> Tensor:
    """Attention written out: two heads of 4, softmax by hand."""
    b, t, d = x.shape
    q, k, v = (part(x).view(b, t, 2, d // 2).transpose(1, 2) for part in (s.q, s.k, s.v))
    a = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // 2), -1)
    return s.o((a @ v).transpose(1, 2).reshape(b, t, d))


def packed(s: Net, x: Tensor) -> Tensor:
    """Attention from one projection to queries, keys and values, torch's own product."""
    b, t, d = x.shape
    q, k, v = s.qkv(x).reshape(b, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
    return s.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))


def recurrent(s: Net, x: Tensor) -> Tensor:
    """A recurrent loop over time, started from zeros."""
    h = torch.zeros(x.shape[0], 4)
    for t in range(x.shape[1]):
        h = torch.relu(s.i(x[:, t]) + s.h(h))
    return s.o(h)


def tied_autoencoder(s: Net, x: Tensor) -> Tensor:
    h = F.relu(F.linear(F.relu(F.linear(x, s.a)), s.b))
    return F.linear(F.relu(F.linear(h, s.b.t())), s.a.t())


def into_a_buffer(s: Net, x: Tensor) -> Tensor:
    out = x.new_zeros(x.shape[0], 8)
    out[:, :4] = s.a(x).relu()
    out[:, 4:] = s.b(x).relu()
    return s.o(out)


def shortcut_with_zeros(s: Net, x: Tensor) -> Tensor:
    """The parameter-free shortcut of small residual networks: every second pixel, new channels 0."""
    h = s.i(x).relu()
    short = F.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
    return s.o((short + s.c(h)).relu().mean((2, 3)))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "perceptron": (
        lambda: nn.Sequential(Linear(4, 5), nn.ReLU(), Linear(5, 6), nn.LeakyReLU(), nn.Dropout(), Linear(6, 3)),
        (7, 4),
        5 + 6,
    ),
    "no bias": (lambda: nn.Sequential(Linear(4, 5, bias=False), nn.ReLU(), Linear(5, 3, bias=False)), (7, 4), 5),
    "linear network": (lambda: nn.Sequential(Linear(4, 5), nn.Identity(), Linear(5, 3)), (7, 4), 5),
    "convolutions": (
        lambda: nn.Sequential(
            *(Conv(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Conv(4, 6, 3, groups=2), nn.PReLU(6)),
            *(nn.AvgPool2d(2), nn.Flatten(), Linear(6, 3)),
        ),
        (2, 3, 8, 8),
        4 + 6,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            Conv(3, 4, 3), nn.ReLU(), Conv(4, 8, 3, groups=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(8, 3)
        ),
        (2, 3, 8, 8),
        4 + 8,
    ),
    "one-dimensional": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), Linear(12, 2)),
        (2, 3, 8),
        4,
    ),
    "three-dimensional": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 2), nn.ReLU(), nn.AdaptiveMaxPool3d(1), nn.Flatten(), Linear(4, 2)),
        (2, 1, 4, 4, 4),
        4,
    ),
    "transposed": (
        lambda: nn.Sequential(
            Conv(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 8, 3, groups=2, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 2, 3)
        ),
        (2, 3, 6, 6),
        4 + 8,
    ),
    "padded by reflection, up-sampled": (
        lambda: nn.Sequential(
            *(Conv(2, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Upsample(scale_factor=2)),
            *(nn.ZeroPad2d(1), Conv(3, 2, 3)),
        ),
        (2, 2, 5, 5),
        3,
    ),
    "local": (
        lambda: nn.Sequential(
            *(LocallyConnected2d(3, 2, 3, 8), nn.ReLU(), LocallyConnected2d(2, 3, 2, 6, stride=2, padding=1)),
            *(nn.LeakyReLU(), nn.Flatten(), Linear(48, 5), nn.ReLU(), Linear(5, 2)),
        ),
        (2, 3, 8, 8),
        2 * 36 + 3 * 16 + 5,
    ),
    "local, pooled in windows": (
        lambda: nn.Sequential(LocallyConnected2d(3, 2, 3, 8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), Linear(18, 2)),
        (2, 3, 8, 8),
        2 * 9,
    ),
    "local, under a shared kernel": (
        lambda: nn.Sequential(LocallyConnected2d(3, 2, 3, 8), nn.ReLU(), Conv(2, 3, 3), nn.Flatten(), Linear(48, 2)),
        (2, 3, 8, 8),
        2 + 3,
    ),
    "bipower units": (
        lambda: nn.Sequential(Linear(3, 4), BiPU(2, 1, 0.5), Linear(4, 5), BiPU(0.7, 1, 2), Linear(5, 2)),
        (5, 3),
        4 + 5,
    ),
    "squares": (
        lambda: Net(lambda s, x: s.o(s.b(s.a(x).relu() ** 2).relu().square()), a=Linear(3, 4), b=Linear(4, 5), o=Linear(5, 2)),
        (5, 3),
        4 + 5,
    ),
    "gated": (
        lambda: Net(lambda s, x: s.o(s.a(x).relu() * s.b(x)), a=Linear(3, 4), b=Linear(3, 4), o=Linear(4, 2)),
        (5, 3),
        4 + 4,
    ),
    "quotient": (
        lambda: Net(lambda s, x: s.o(s.a(x) * s.b(x) / s.c(x)), a=Linear(3, 4), b=Linear(3, 4), c=Linear(3, 4), o=Linear(4, 2)),
        (5, 3),
        3 * 4,
    ),
    "bilinear": (
        lambda: Net(lambda s, x: s.o(s.b(s.a(x).relu(), s.c(x).relu())), a=Linear(3, 4), b=nn.Bilinear(4, 5, 6), c=Linear(3, 5), o=Linear(6, 2)),
        (5, 3),
        4 + 5 + 6,
    ),
    "residual": (
        lambda: Net(
            lambda s, x: s.o((lambda h: torch.relu(h + s.b(s.a(h).relu())))(s.i(x))),
            i=Linear(3, 6), a=Linear(6, 4), b=Linear(4, 6), o=Linear(6, 2),
        ),
        (5, 3),
        6 + 4,
    ),
    "residual on the input": (
        lambda: Net(lambda s, x: s.o(x + s.b(s.a(x).relu())), a=Linear(6, 4), b=Linear(4, 6), o=Linear(6, 2)),
        (5, 6),
        4,
    ),
    "projection shortcut": (
        lambda: Net(
            lambda s, x: s.o((lambda h: torch.relu(s.p(h) + s.b(s.a(h).relu())))(s.i(x).relu())),
            i=Linear(3, 6), a=Linear(6, 4), b=Linear(4, 5), p=Linear(6, 5), o=Linear(5, 2),
        ),
        (5, 3),
        6 + 4 + 5,
    ),
    "shortcut padded with zeros": (
        lambda: Net(shortcut_with_zeros, i=Conv(3, 4, 3, padding=1), c=Conv(4, 6, 3, stride=2, padding=1), o=Linear(6, 2)),
        (2, 3, 6, 6),
        4 + 2,
    ),
    "concatenation": (
        lambda: Net(lambda s, x: s.o(torch.cat([s.a(x).relu(), x, s.b(x).abs()], -1)), a=Linear(6, 4), b=Linear(6, 5), o=Linear(15, 2)),
        (5, 6),
        4 + 5,
    ),
    "into a buffer": (lambda: Net(into_a_buffer, a=Linear(3, 4), b=Linear(3, 4), o=Linear(8, 2)), (5, 3), 8),
    "halves added": (
        lambda: Net(lambda s, x: s.o(torch.stack(s.a(x).relu().chunk(2, -1), 1).sum(1)), a=Linear(3, 8), o=Linear(4, 2)),
        (5, 3),
        4,
    ),
    "recurrent": (
        lambda: Net(lambda s, x: s.o(s.r(x)[0][:, -1]), r=nn.RNN(3, 4, 2, nonlinearity="relu", batch_first=True), o=Linear(4, 2)),
        (5, 6, 3),
        2 * 4,
    ),
    "recurrent, both ways": (
        lambda: Net(lambda s, x: s.o(s.r(x)[0].mean(0)), r=nn.RNN(3, 4, 2, nonlinearity="relu", bidirectional=True), o=Linear(8, 2)),
        (5, 6, 3),
        4 * 4,
    ),
    "recurrent, a loop": (lambda: Net(recurrent, i=Linear(3, 4), h=Linear(4, 4), o=Linear(4, 2)), (5, 6, 3), 4),
    "recurrent, a cell": (
        lambda: Net(lambda s, x: s.o(s.c(x[:, 1], s.c(x[:, 0]))), c=nn.RNNCell(3, 4, nonlinearity="relu"), o=Linear(4, 2)),
        (5, 2, 3),
        4,
    ),
    "attention by hand": (lambda: Net(heads, q=Linear(8, 8), k=Linear(8, 8), v=Linear(8, 8), o=Linear(8, 8)), (2, 5, 8), 8 + 8),
    "attention, packed": (lambda: Net(packed, qkv=Linear(8, 24), o=Linear(8, 8)), (2, 5, 8), 8 + 8),
    "attention, torch's": (
        lambda: Net(lambda s, x: s.o((lambda h: s.a(h, h, h)[0])(s.i(x))), i=Linear(3, 8), a=nn.MultiheadAttention(8, 2, batch_first=True), o=Linear(8, 2)),
        (2, 5, 3),
        8 + 8 + 8 + 8,  # embedding, query against key, value, output projection
    ),
    "attention of two sizes": (
        lambda: Net(lambda s, x: s.a(x, x[..., :4], x[..., :6])[0], a=nn.MultiheadAttention(8, 2, kdim=4, vdim=6)),
        (5, 2, 8),
        8 + 8,
    ),
    "transformer block": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8), 8 + 8 + 16),
    "tied autoencoder": (lambda: Net(tied_autoencoder, a=draw(5, 7), b=draw(4, 5)), (3, 7), 5),
    "tied, one hidden layer": (lambda: Net(lambda s, x: F.linear(F.linear(x, s.a).relu(), s.a.t()), a=draw(5, 7)), (3, 7), 0),
    "a layer twice": (
        lambda: Net(lambda s, x: s.o(s.a(s.a(s.i(x).relu()).relu()).relu()), i=Linear(6, 4), a=Linear(4, 4), o=Linear(4, 2)),
        (5, 6),
        4,
    ),
    "a layer twice, without biases": (
        lambda: Net(
            lambda s, x: s.o(s.a(s.a(s.i(x).relu()).relu()).relu()),
            i=Linear(6, 4, bias=False), a=Linear(4, 4, bias=False), o=Linear(4, 2, bias=False),
        ),
        (5, 6),
        4 + 1,  # and the layer's own gain, which its two uses hand on
    ),
    "experts": (lambda: Net(lambda s, x: s.o(torch.bmm(torch.bmm(x, s.w).relu(), s.u).sum(0)), w=draw(3, 4, 5), u=draw(3, 5, 6), o=Linear(6, 2)), (3, 7, 4), 15 + 6),
    "a gain": (lambda: Net(lambda s, x: s.o(s.a(x).relu() * s.g), a=Linear(3, 4), g=draw(4), o=Linear(4, 2)), (5, 3), 4 + 4),
    "one gain for all": (lambda: Net(lambda s, x: s.o(s.a(x).relu() * s.g), a=Linear(3, 4), g=draw(1), o=Linear(4, 2)), (5, 3), 4 + 1),
    "a class token": (
        lambda: Net(lambda s, x: s.o(torch.cat([s.t.expand(x.shape[0], -1, -1), s.i(x)], 1).relu().sum(1)), t=draw(1, 1, 4), i=Linear(3, 4), o=Linear(4, 2)),
        (2, 5, 3),
        4,
    ),
    "a weight in halves": (
        lambda: Net(lambda s, x: s.o(F.linear(x, s.w[:4]).relu() * F.linear(x, s.w[4:])), w=draw(8, 3), o=Linear(4, 2)),
        (5, 3),
        4 + 4,
    ),
    "squeeze and excite": (
        lambda: Net(
            lambda s, x: s.o((lambda h: h * torch.sigmoid(s.c(h.mean((2, 3)))).view(-1, 4, 1, 1))(s.a(x).relu()).flatten(1)),
            a=Conv(3, 4, 3), c=Linear(4, 4), o=Linear(64, 2),
        ),
        (2, 3, 6, 6),
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_random_rescaling_keeps_the_function_and_the_count_is_the_one_by_hand(name: str) -> None:
    make, shape, count = NETS[name]
    assert free(make().eval(), draw(*shape)) == count


def test_embeddings_scale_by_column_and_positions_with_what_they_are_added_to() -> None:
    net = Net(lambda s, x: s.o((s.e(x) + s.p[:3]).relu()), e=nn.Embedding(7, 4), p=draw(5, 4), o=Linear(4, 2))
    assert free(net, torch.randint(7, (2, 3))) == 4


def test_sums_and_composition_of_rescalings_are_rescalings_T2() -> None:
    make, shape, _ = NETS["attention, torch's"]
    net, x = make(), draw(*shape)
    made = unchanged(net, x, seed=1)
    one, two = (made.rows.expand(torch.full((made.scalable,), value)) for value in (0.3, -0.8))
    both = made.rows.expand(torch.full((made.scalable,), -0.5))
    torch.testing.assert_close(one + two, both, rtol=0, atol=1e-14)
