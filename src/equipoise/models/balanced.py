"""The networks of the paper on synaptic balance, whose units are all homogeneous, and a convolutional one."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.styles import image_sizes, integers, read_style

__all__ = ["autoencoder", "cnn"]


@register("autoencoder")
def autoencoder(text: str = "784-200-100-50-100-200-784") -> nn.Sequential:
    """Fully connected, ReLU behind every layer, the last too: autoencoder:784-200-100-50-100-200-784

    Layer widths from the flat input back to as many outputs; train it with ``loss="reconstruction"``. Options as for
    mlp. By default the network of the balance paper's first experiment (section 6).
    """
    spec, form = f"autoencoder:{text}", "autoencoder:784-200-100-50-100-200-784"
    sizes, style = read_style(text or form.partition(":")[2], spec, dropout=True)
    widths = integers(sizes, "-", spec, form)
    if len(widths) < 2 or widths[0] != widths[-1]:
        raise InputError(f"model '{spec}' needs as many outputs as inputs, as in {form}")
    layers = style.entrance()
    for k, (width, wider) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width, wider, bias=style.bias == "yes"))
        layers += style.after() if k < len(widths) - 2 else style.after()[:1]
    return style.start(nn.Sequential(*layers))


@register("cnn")
def cnn(text: str = "3x32x32-16-32-64-10") -> nn.Sequential:
    """Convolutions 3x3, each with ReLU and max-pooling 2x2, then one readout: cnn:3x32x32-16-32-64-10

    The image, the channels of each convolution, the classes. Options behind a comma, as for mlp.
    """
    spec, form = f"cnn:{text}", "cnn:3x32x32-16-32-64-10"
    sizes, style = read_style(text or form.partition(":")[2], spec, dropout=False)
    image, *widths = sizes.split("-")
    channels, height, width = image_sizes(f"{image}-1", spec, form)[0]
    *stages, classes = integers("-".join(widths), "-", spec, form)
    if not stages or min(height, width) < 2 ** len(stages):
        raise InputError(f"model '{spec}' needs one stage or more, and a pixel that is left behind the last pooling")
    bias, layers = style.bias == "yes", []
    for before, after in pairwise([channels, *stages]):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=bias), *style.after(), nn.MaxPool2d(2)]
    left = stages[-1] * (height >> len(stages)) * (width >> len(stages))
    return style.start(nn.Sequential(*layers, nn.Flatten(), nn.Linear(left, classes, bias=bias)))
