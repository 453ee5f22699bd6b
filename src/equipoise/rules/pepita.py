"""PEPITA: two forward passes and no backward one; the second sees the error added to the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.rules.base import Options, Rule, Write
from equipoise.rules.links import has_own_forward, read_chain
from equipoise.rules.make import registry
from equipoise.rules.passes import Passes
from equipoise.rules.settling import settle
from equipoise.rules.survey import Survey

__all__ = ["Pepita", "PepitaOptions"]


@dataclass(frozen=True)
class PepitaOptions(Options):
    """Options of ``pepita``; the defaults are the paper's choices.

    law, scale: distribution of F and a factor on it (scale=0: the control F = 0). sign: of the error that is added.
    inject: the layer whose input is modulated; layers below it do not learn; "" is the first. output_error: of which
    pass the output layer learns. presynaptic: whose activity is the presynaptic factor. update: "after" both passes;
    "during" the second one, each layer's gradient in .grad and its hooks called before the next layer's activity is
    computed; "hebbian": as the sum of h h'^T and of -h' h'^T, rounded one by one. conv_norm, kernel_rate: kernels'
    gradients are divided by the number of positions, its root or nothing, and multiplied by kernel_rate. perturb, k:
    modulate by the error, or by k times a random vector, uniform on [-1, 1) or "positive" on [0, 1). center="units":
    a hidden layer's difference loses its mean over units (of kernels, over channels at each position), and so does
    what its biases learn from; silent and dropped units count. No paper.
    variant="released": what the authors' code does, whatever output_error says. Dense: the output learns from the
    second pass's error, and masks multiply a hidden difference twice. With kernels: from the first pass's, and
    kernels move the other way, over the batch size once more (errata P1 to P4).
    """

    law: str = "kaiming_uniform"
    scale: float = 0.05
    sign: Literal[1, -1] = 1
    inject: str = ""
    output_error: Literal["standard", "modulated"] = "standard"
    presynaptic: Literal["modulated", "standard"] = "modulated"
    update: Literal["after", "during", "hebbian"] = "after"
    conv_norm: Literal["positions", "sqrt", "none"] = "positions"
    kernel_rate: float = 1.0
    perturb: Literal["error", "uniform", "positive"] = "error"
    k: float = 1.0
    center: Literal["none", "units"] = "none"
    variant: Literal["paper", "released"] = "paper"


@registry.register("pepita")
class Pepita(Rule):
    """PEPITA: the error, added to the input, changes the activity of a second forward pass, and the changes teach.

        h_l = f(W_l h_{l-1}),  h'_l = f(W_l h'_{l-1}),  h_0 = x,  h'_0 = x + F e,  e = activity of the output - t
        dW_l := (h_l - h'_l) h'_{l-1}^T,   output: dW_L := e h'_{L-1}^T   (means over the batch; b_l: without h')
        center="units":  d - mean_k(d_k) in place of d = h_l - h'_l

    F (n, C) is fixed; e is per sample. A kernel's gradient is also a mean over its positions; its difference is taken
    before pooling. Both passes share dropout masks. Trains chains: ``nn.Sequential`` of linear and convolutional
    layers, with activations, pooling, dropout and flattening between them; the loss has to be one whose error is
    activity - t. Layers' hooks run in the first pass, and are to listen only. Computed by differences (h' - h is
    carried, not h'), which survives half precision.
    Source: Dellaferrera and Kreiman 2022, eq. 1-5, section 3.3 and appendix A.
    """

    Options: ClassVar[type[Options]] = PepitaOptions
    drawn_at_look = True
    forward_only = True
    options: PepitaOptions

    def __init__(self, model: nn.Module, **given: object) -> None:
        super().__init__(model, **given)  # type: ignore[arg-type]
        if not self.loss.residual:
            raise InputError(
                f"pepita shows the error activity - t to the network, and the error of the loss '{self.loss.name}' is "
                "not of that form; use cross_entropy (softmax), binary_cross_entropy or mse, or rule 'fa'"
            )
        self.refuse_local_objectives("pepita does not train; use rule 'fa' or 'dfa'")
        try:
            self.links = read_chain(model, self.slots)
        except InputError as error:
            raise InputError(f"pepita cannot train this model: {error}; use rule 'fa' or 'dfa', or change it") from None
        hidden = [link.name for link in self.links[:-1]]
        entry = self.options.inject or hidden[0]
        if entry not in hidden:
            raise InputError(f"inject='{entry}' names no hidden layer; the chain's are {', '.join(hidden)}")
        self.entry = hidden.index(entry)
        self.choices = self.options
        if self.options.variant == "released":
            kernels = any(not link.dense for link in self.links)
            self.choices = replace(self.options, output_error="standard" if kernels else "modulated")
        self.immediate = self.options.update == "during"

    def prepare(self, found: Survey, x: Tensor) -> None:
        """Draw F for the input of the layer where the error enters."""
        parts = [part for link in self.links for part in (*link.before, *link.after)]
        if len(found.dropouts) != sum(part.number >= 0 for part in parts):
            raise InputError("a layer draws dropout by itself, which would differ between the passes; use nn.Dropout")
        self.links, shapes = settle(self.links, x)
        link, n = self.links[self.entry], shapes[self.entry].numel()
        self.keep(link.name, (n, found.classes), law=self.options.law, fan_in=n, scale=self.options.scale)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Dropout masks, and the random vector of ``perturb`` where it is not the error."""
        noise = super().draw(x, generator)
        if self.options.perturb != "error":
            assert self.survey is not None
            like = self.like()
            r = torch.rand(x.shape[0], self.survey.classes, generator=generator, device=x.device).to(like.dtype)
            noise["perturbation"] = r if self.options.perturb == "positive" else 2 * r - 1
        return noise

    def by_hand(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        write: Write,
        *,
        fresh: bool,
    ) -> tuple[Tensor, Tensor]:
        """Both passes; each layer's gradient is written as soon as its two activities are known."""
        self._same_rates(self.links)
        batch, name = x.shape[0], self.links[self.entry].name
        matrix = feedback[name]
        self._fits(name, tuple(matrix.shape), tuple(self.feedback()[name].shape))
        if self.options.perturb != "error" and "perturbation" not in noise:
            raise InputError("this pepita modulates by random vectors; pass noise=rule.draw(x, generator)")
        changed = has_own_forward(self.model) if fresh else None
        if changed:
            raise InputError(f"the forward of '{changed}' was replaced on the object, and pepita would not call it")
        hooked = fresh and self._hooked()
        passes = Passes(self.links, self.entry, tensors, noise, self.choices, write, fresh=fresh and not hooked)
        output = passes.standard(x, matrix, hooked=hooked)
        precise = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
        error = self.loss.error(precise, y) * batch
        shown = error if self.options.perturb == "error" else noise["perturbation"] * self.options.k
        scores = passes.modulated(shown if self.options.sign == 1 else -shown, matrix)
        if scores is not None:
            error = self.loss.error(scores.to(precise.dtype), y) * batch
        passes.output(error)
        return self.loss.value(precise, y), output

    def _hooked(self) -> bool:
        """Whether somebody listens to the model's layers."""
        return any(m._forward_hooks or m._forward_pre_hooks for m in self.model.modules())
