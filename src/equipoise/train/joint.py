"""What a batch has as a whole where several ranks hold parts of it: batch statistics, and what cannot be parted."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from equipoise.errors import InputError
from equipoise.rules.sync import Part, drawn

__all__ = ["ROWS", "JointStatistics", "normalisations", "require_parts"]

ROWS, _CLOSE = 5, 1e-3


class _Sum(torch.autograd.Function):
    """The sum over ranks of t, for losses that are means over each rank's own n rows.

    With L = sum_r n_r L_r / N, the gradient of rank q's own mean loss is  dL/dt N / n_q = sum_r n_r dL_r/dt / n_q.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, count: int) -> Tensor:
        ctx.count = count
        total = t.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        total = g * ctx.count
        dist.all_reduce(total)
        return total / ctx.count, None


class JointStatistics(TorchFunctionMode):
    """Batch normalisation by the mean and variance of the joint batch; this rank has ``own`` of its ``whole`` rows.

    y = w (x - m) / sqrt(v + eps) + b; the running variance has the joint batch's unbiased factor, as alone.
    """

    def __init__(self, own: int, whole: int) -> None:
        super().__init__()
        self.own, self.whole = own, whole

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return (self._normalised if function is F.batch_norm else function)(*args, **kwargs)

    def _normalised(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        axes, shape = [0, *range(2, x.ndim)], (-1, *(1,) * (x.ndim - 2))
        count = x.numel() // x.shape[1] * self.whole // self.own
        mean = _Sum.apply(x.sum(axes), self.own) / count
        around = x - mean.view(shape)
        variance = _Sum.apply(around.square().sum(axes), self.own) / count
        with torch.no_grad():
            for kept, now in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
                if kept is not None:
                    kept.lerp_(now.to(kept.dtype), momentum)
        found = around * (variance + eps).rsqrt().view(shape)
        found = found if weight is None else found * weight.view(shape)
        return (found if bias is None else found + bias.view(shape)).to(input.dtype)


def normalisations(model: nn.Module) -> list[nn.Module]:
    """The batch normalisations in ``model`` that ``JointStatistics`` takes over."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def require_parts(rule: Any, x: Tensor, y: Tensor, *, what: str) -> None:
    """``InputError`` unless the rule's gradient of the batch (x, y) is the mean of its parts', weighted by rows.

    Tried with copies, and with batch normalisation at rest, whose statistics are the joint batch's later. ``what`` is
    trained, for the message; it names the first parameter whose gradient differs.
    """
    if len(x) < 2:
        return
    cut = len(x) - len(x) // 2
    whole = _gradients(rule, x, y, False)
    parts = [_gradients(rule, x[a:b], y[a:b], Part(a, len(x))) for a, b in ((0, cut), (cut, len(x)))]
    shares = (cut / len(x), 1 - cut / len(x))
    scale = max((g.norm() for g in whole.values()), default=x.new_zeros(()))
    for name, g in whole.items():
        joined = sum(share * part.get(name, torch.zeros_like(g)) for share, part in zip(shares, parts, strict=True))
        if not bool((joined - g).norm() <= _CLOSE * g.norm() + 1e-5 * scale):
            raise InputError(
                f"{what} cannot be shared by several ranks: the gradient of '{name}' is not the mean of what parts of "
                "the batch give, so something looks at a batch as a whole, or draws numbers of its own; train it on one"
            )


def _gradients(rule: Any, x: Tensor, y: Tensor, part: Part | bool) -> dict[str, Tensor]:
    """By name, what a copy of ``rule`` and its model writes for (x, y), which may be a ``part`` of a batch."""
    model, twin = copy.deepcopy((rule.model, rule))
    model.train()
    for layer in normalisations(model):
        layer.eval()
    model.zero_grad()
    twin.__dict__["draw"] = lambda x, generator=None: drawn(rule, x, generator, part)
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(0)
        noise = torch.Generator(x.device).manual_seed(0)
        twin.backward(x, y, sync=False, generator=noise)
    named = [*model.named_parameters(), *twin.named_parameters(prefix="feedback")]
    return {name: p.grad.detach() for name, p in named if p.grad is not None}
