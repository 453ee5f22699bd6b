"""What a hidden layer makes of the classes: its activity, a picture of it in the plane, and a number beside it.

A picture by t-SNE shows heaps where there are some and at times where there are none, so it comes with ``separation``,
which is measured in the hidden space itself (DellaFerrera and Kreiman 2022, figure 4, shows pictures alone).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from equipoise.errors import InputError, unknown_name
from equipoise.measure.activity import untouched

__all__ = ["embed", "hidden_activity", "separation"]

# What may follow a layer without mixing its units: nonlinearities, and what is the identity or a factor in eval mode.
TAIL = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign),
    *(nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.LogSigmoid, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)
ROWS = 512


def hidden_activity(model: nn.Module, x: Tensor, layer: str) -> Tensor:
    """The activity of ``layer`` (a name of ``model.named_modules()``) on x (B, ...): (B, units), flattened.

    In an ``nn.Sequential`` that is what leaves the nonlinearities, batch norm and dropout that directly follow the
    layer; in any other module, what the named module itself returns (at its last use). In eval mode and without
    gradients; the model is left as it was. Raises ``InputError`` for an unknown name, or a layer that does not run, or
    returns no tensor.
    """
    modules = dict(model.named_modules())
    if not layer or layer not in modules:
        raise unknown_name("layer", layer, [name for name in modules if name])
    heard: list[Any] = []
    with untouched(model, x), torch.no_grad():
        model.eval()
        handle = _last_of_tail(modules, layer).register_forward_hook(lambda *call: heard.append(_kept(call[-1])))
        try:
            model(x)
        finally:
            handle.remove()
    if not heard or not isinstance(heard[-1], Tensor):
        seen = f"returned {type(heard[-1]).__name__}" if heard else "did not run"
        raise InputError(f"layer '{layer}' has no activity to show: it {seen}; name another layer")
    return heard[-1].flatten(1)


def embed(activity: Tensor, *, seed: int, perplexity: float = 30.0) -> Tensor:
    """Points (B, 2) in the plane for the rows of ``activity`` (B, units), near where rows are near, by t-SNE.

    Scikit-learn's, started from the first two principal components; the same seed gives the same picture on the same
    machine. Its distances and the sizes of its heaps mean little: see ``separation``. Raises ``InputError`` unless
    1 <= perplexity < B.
    """
    from sklearn.manifold import TSNE

    rows = _rows(activity)
    if not 1 <= perplexity < len(rows):
        raise InputError(f"perplexity is {perplexity:g} for {len(rows)} samples; give 1 or more, and fewer than these")
    picture = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return torch.from_numpy(picture.fit_transform(rows.float().numpy()))


def separation(activity: Tensor, labels: Tensor, *, neighbours: int = 10) -> float:
    """How well the classes lie apart: the mean share of a sample's k nearest others that have its own label.

    activity (B, units), labels (B,); nearest by Euclidean distance in float64. 1 for classes apart; for activity that
    says nothing of the class it is sum_c n_c (n_c - 1) / (B (B - 1)), 1/C for many samples in C equal classes. Raises
    ``InputError`` unless 1 <= k < B and there is a label for every sample.
    """
    rows, labels = _rows(activity), labels.to("cpu")
    if labels.shape != rows.shape[:1]:
        raise InputError(f"{len(rows)} samples need {len(rows)} labels, here of shape {tuple(labels.shape)}")
    if not 1 <= neighbours < len(rows):
        raise InputError(f"{neighbours} neighbours of {len(rows)} samples; give 1 or more, and fewer than these")
    same = 0
    for index in torch.arange(len(rows)).split(ROWS):
        distances = torch.cdist(rows[index], rows, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(index)), index] = torch.inf
        nearest = distances.topk(neighbours, largest=False).indices
        same += int((labels[nearest] == labels[index, None]).sum())
    return same / (len(rows) * neighbours)


def _kept(output: Any) -> Any:
    """A copy, because what follows may change the layer's output in place."""
    return output.clone() if isinstance(output, Tensor) else output


def _last_of_tail(modules: dict[str, nn.Module], layer: str) -> nn.Module:
    """The last module of the tail that follows ``layer`` element by element; itself outside an ``nn.Sequential``."""
    parent, _, name = layer.rpartition(".")
    chain = modules[parent]
    if not isinstance(chain, nn.Sequential):
        return modules[layer]
    names = list(chain._modules)
    last = modules[layer]
    for following in names[names.index(name) + 1 :]:
        if not isinstance(chain._modules[following], TAIL):
            break
        last = chain._modules[following]
    assert last is not None
    return last


def _rows(activity: Tensor) -> Tensor:
    """The activity as (B, units) in float64 on the CPU."""
    if activity.ndim < 2:
        raise InputError(f"activity is (samples, units), here of shape {tuple(activity.shape)}")
    rows = activity.detach().flatten(1).to("cpu", torch.float64)
    if not bool(rows.isfinite().all()):
        raise InputError("the activity is not finite everywhere; did the training diverge?")
    return rows
