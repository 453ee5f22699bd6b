"""The networks of the paper on synaptic balance, whose units are all homogeneous, and a convolutional one."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from equipoise.errors import InputError
from equipoise.models.catalogue import register
from equipoise.models.styles import image_shape, integers, read_style
from equipoise.nn import LocallyConnected2d

__all__ = ["autoencoder", "cnn", "local"]


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
    channels, height, width = image_shape(image, spec, form)
    *stages, classes = integers("-".join(widths), "-", spec, form)
    if not stages or min(height, width) < 2 ** len(stages):
        raise InputError(f"model '{spec}' needs one stage or more, and a pixel that is left behind the last pooling")
    bias, layers = style.bias == "yes", []
    for before, after in pairwise([channels, *stages]):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=bias), *style.after(), nn.MaxPool2d(2)]
    left = stages[-1] * (height >> len(stages)) * (width >> len(stages))
    return style.start(nn.Sequential(*layers, nn.Flatten(), nn.Linear(left, classes, bias=bias)))


@register("local")
def local(text: str = "3x32x32-300-100-10") -> nn.Sequential:
    """Three locally connected layers, then fully connected ones, leaky ReLU between them: local:3x32x32-300-100-10

    The image, the widths of the fully connected layers, the classes. The local layers have square kernels of k = height
    / 4, k and 2 (strides 1, 1 and 2) and 8, 8 and 16 channels: on CIFAR-10 the sizes 3072-5000-2592-1296 of the balance
    paper's second experiment, which prints no kernels (these are ours). ``bias`` and ``init`` as for mlp; the leak is
    torch's 0.01.
    """
    spec, form = f"local:{text}", "local:3x32x32-300-100-10"
    sizes, style = read_style(text or form.partition(":")[2], spec, dropout=False)
    image, *widths = sizes.split("-")
    channels, height, width = image_shape(image, spec, form)
    dense = integers("-".join(widths), "-", spec, form)
    if style.activation != "relu":
        raise InputError(f"model '{spec}' has leaky ReLU; it takes the options bias and init alone")
    if min(height, width) < 8:
        raise InputError(f"model '{spec}' needs images of 8x8 or more")
    bias, layers, size = style.bias == "yes", [], (height, width)
    for before, after, kernel, stride in ((channels, 8, height // 4, 1), (8, 8, height // 4, 1), (8, 16, 2, 2)):
        layer = LocallyConnected2d(before, after, kernel, size, stride=stride, bias=bias)
        size = (layer.output_size[0], layer.output_size[1])
        layers += [layer, nn.LeakyReLU()]
    layers.append(nn.Flatten())
    for place, (before, after) in enumerate(pairwise([16 * size[0] * size[1], *dense])):
        layers += [*([nn.LeakyReLU()] if place else []), nn.Linear(before, after, bias=bias)]
    return style.start(nn.Sequential(*layers))
