"""Losses as batch means, each with its error: the gradient of the loss with respect to the network's output.

Direct feedback sends the error itself to the hidden layers, so it is written out here once, in closed form,
and works inside ``torch.func`` transforms and full-graph compilation. t is the one-hot target, B the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from equipoise.errors import InputError
from equipoise.registry import Registry

__all__ = ["Loss", "as_loss", "losses", "one_hot"]

Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A batch-mean loss: ``value(output, y)`` is a scalar, ``error(output, y)`` its gradient, (B, C).

    residual: whether the error is (activity - t) / B, with the activity that the loss puts on the output (softmax,
    logistic or none). Rules that show the error to the network itself need it to be.
    of_input: whether y is the network's own input, flat (B, C), and not the labels.
    both: (value, error) of labels (B,) for less than the two cost apart; not under ``torch.func``.
    """

    name: str
    value: Function
    error: Function
    residual: bool = False
    of_input: bool = False
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None


losses: Registry[Loss] = Registry("loss")


def one_hot(y: Int[Tensor, " B"], output: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """The targets t of the labels ``y``, in the dtype of ``output`` (a comparison, because it has to vmap).

    Raises ``InputError`` for labels of another shape than (B,).
    """
    if y.ndim != output.ndim - 1:
        raise InputError(f"labels y have the shape {tuple(y.shape)}; class indices (B,) are needed")
    classes = torch.arange(output.shape[-1], device=output.device)
    return (classes == y.unsqueeze(-1)).to(output.dtype)


def _softmax_error(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
    # F.cross_entropy leaves out samples with the label -100, and so does its gradient.
    counted = (y != -100).to(output.dtype).unsqueeze(-1)
    return (output.softmax(-1) - one_hot(y, output)) * (counted / counted.sum())


def _softmax_both(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
    """What ``F.cross_entropy`` runs there and back, without a graph."""
    aten = torch.ops.aten
    scores = output.log_softmax(-1)
    mean, ignored = 1, -100
    value, counted = aten.nll_loss_forward(scores, y, None, mean, ignored)
    back = aten.nll_loss_backward(torch.ones_like(value), scores, y, None, mean, ignored, counted)
    return value, aten._log_softmax_backward_data(back, scores, -1, scores.dtype)


def _squared(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Tensor:
    return (output - one_hot(y, output)).square().sum() / (2 * output.shape[0])


def _squared_error(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
    return (output - one_hot(y, output)) / output.shape[0]


def _logistic(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, one_hot(y, output), reduction="sum") / output.shape[0]


def _logistic_error(output: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
    return (output.sigmoid() - one_hot(y, output)) / output.shape[0]


def _reconstruction(output: Float[Tensor, "B C"], y: Float[Tensor, "B C"]) -> Tensor:
    return (output - y).square().sum() / output.shape[0]


def _reconstruction_error(output: Float[Tensor, "B C"], y: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    return 2 * (output - y) / output.shape[0]


def _nothing(output: Float[Tensor, "B C"], y: Tensor) -> Tensor:
    """0: there is no task, and what is added to the gradient acts alone."""
    return 0 * output.sum()


def _nothing_error(output: Float[Tensor, "B C"], y: Tensor) -> Float[Tensor, "B C"]:
    return torch.zeros_like(output)


losses.register("nothing")(Loss("nothing", _nothing, _nothing_error))
losses.register("cross_entropy")(
    Loss("cross_entropy", F.cross_entropy, _softmax_error, residual=True, both=_softmax_both)
)
losses.register("mse")(Loss("mse", _squared, _squared_error, residual=True))
losses.register("binary_cross_entropy")(Loss("binary_cross_entropy", _logistic, _logistic_error, residual=True))
losses.register("reconstruction")(Loss("reconstruction", _reconstruction, _reconstruction_error, of_input=True))


def as_loss(loss: Any) -> Loss:
    """A ``Loss`` from a name, a ``Loss``, or your own batch-mean function of (output, y).

    Names: ``cross_entropy`` (softmax, mean over the batch), ``mse`` (half the squared distance to t, summed
    over the outputs), ``binary_cross_entropy`` (logistic, summed over the outputs), ``reconstruction`` (the squared
    distance to the network's own input, summed over the outputs). An unknown name or a thing that cannot be called
    raises ``InputError``.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return losses[loss]
    if callable(loss):
        return Loss(getattr(loss, "__name__", "custom"), cast(Function, loss), torch.func.grad(loss))
    raise InputError(f"loss must be a name, a Loss or a function of (output, y), not {type(loss).__name__}")
