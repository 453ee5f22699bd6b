"""GAIT: targets so close to the activities that what they teach is backpropagation, through inverses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.rules.base import Options, Rule, Write
from equipoise.rules.descent import announce, descend, errs, unwatched
from equipoise.rules.inverses import InverseOptions, Inverted
from equipoise.rules.make import registry
from equipoise.rules.targets import ascend, below, jitter, per_sample, teach
from equipoise.rules.upkeep import UpkeepOptions

__all__ = ["Gait", "GaitOptions", "TargetOptions", "TargetPropagation"]


@dataclass(frozen=True)
class GaitOptions(InverseOptions):
    """Options of ``gait``, those of ``InverseOptions`` and ``UpkeepOptions``, and:

    mode: "difference" carries t - a itself, for which no gamma is needed; "perturbation" carries targets, as the
    papers do, and wants float64. There, layers are solved, and: normalised, each sample's distance is brought to eta
    in every layer (its root mean square; normaliser="literal" divides by the squared norm, as eq. 5 is printed), or
    each is multiplied by gamma, which is lost at six layers. multiplier: undo that in what a layer learns (the m of
    the authors' code, which Algorithm 1 omits). kink_guard: carry on along a unit's branch beyond its kink.
    noise: what hidden activities change by between the forward pass and the target, so that t - a has it: standard
    deviation of Gaussian noise, relative to the root mean square of the layer's activities.
    """

    mode: Literal["difference", "perturbation"] = "difference"
    gamma: float = 1e-3
    eta: float = 1e-7
    normalised: bool = True
    normaliser: Literal["rms", "literal"] = "rms"
    multiplier: bool = True
    kink_guard: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.gamma > 0 and self.eta > 0):
            raise InputError(f"gamma={self.gamma} and eta={self.eta} are how far targets lie off; both are above 0")
        if not self.noise >= 0:
            raise InputError(f"noise={self.noise} is a standard deviation; it is not below 0")


@registry.register("gait")
class Gait(Inverted):
    """GAIT-prop: targets an infinitely small step from the activities, which teach as backpropagation does.

        t_(l-1) = W_l^-1 (f^-1(s_l) - b_l),   s_l = a_l + gamma D_l^2 (.) (t_l - a_l),   D_l = f'(z_l)
        t_L = a_L - e / 2,   dW_l = 2 m_l D_l (.) (a_l - t_l) h_l^T,   m_(l-1) = m_l / gamma

    The default carries d_l = t_l - a_l in its place, which is the limit gamma -> 0 and, for piecewise linear units,
    the same: d_(l-1) = W_l^-1 (D_l (.) d_l), backpropagation with W^-1 for W^T. Equal to it where W is orthogonal.
    Trains chains of square layers (``nn.InvertibleLinear``, ``nn.InvertibleConv2d``, or plain ones that are square)
    behind the first, with invertible units between them; auxiliary units have no error. Call ``maintain`` after each
    step: it keeps the weights orthogonal, and the inverse near. Losses are means, so e is a sample's error.
    Source: Ahmad, van Gerven and Ambrogioni 2020; the scaling paper, eq. 3-5 and Algorithm 1.
    """

    Options: ClassVar[type[Options]] = GaitOptions
    title = "gait"
    options: GaitOptions

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        self.targets = self.options.mode == "perturbation"
        if self.targets or self.options.noise:
            self.without_local_objectives()
        # Local objectives need autograd.
        self.forward_only = not self.slots.listeners  # type: ignore[misc]

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """As every rule's, and with ``noise`` standard normal values for each hidden activity, by its link's number."""
        found = super().draw(x, generator)
        if self.options.noise:
            sizes = below(self.links, x[:1], self.slots.parameters())
            for k in self.by_number:
                found[f"activity{k}"] = torch.randn(
                    x.shape[0], sizes[k], generator=generator, device=x.device, dtype=x.dtype
                )
        return found

    @property
    def backend(self) -> str:
        """How inverses are had; targets themselves are solved."""
        return "solve" if self.options.mode == "perturbation" else self.options.inverse

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
    ) -> tuple[Tensor, Tensor] | None:
        if self.targets:
            return self.by_targets(x, y, tensors, noise, write, fresh=fresh)
        level = self.options.noise
        if level:
            announce(self.model, x, fresh=fresh)
        elif fresh and not (self.forward_only and unwatched(self.model, x)):
            return None

        def carry(k: int, g: Tensor, error: Tensor, h: Tensor) -> Tensor:
            if fresh:
                self.note(self.by_number[k], g)
            found = self.carried(self.by_number[k], g, h, tensors, feedback)
            # Losses are means: the error is -2 / B times t - a.
            return found - jitter(noise[f"activity{k}"], h, 2 * level / x.shape[0]) if level else found

        return descend(self.links, x, y, tensors, noise, self.loss, carry, write, pure=not fresh)

    def by_targets(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        write: Write,
        *,
        fresh: bool,
    ) -> tuple[Tensor, Tensor]:
        """The step with targets, gamma and all."""
        announce(self.model, x, fresh=fresh)
        layers, output = ascend(self.links, self.units, self.by_number, x, tensors)
        value, error = errs(self.loss, output, y, not fresh)
        batch, options = x.shape[0], self.options

        def disturb(k: int, t: Tensor, h: Tensor) -> Tensor:
            return t + jitter(noise[f"activity{k}"], h, options.noise).reshape(t.shape)

        teach(
            *(layers, output - error * (batch / 2), tensors, write, self._law),
            scale=2 / batch,
            multiplier=options.multiplier,
            guard=options.kink_guard,
            disturb=disturb if options.noise else None,
        )
        return value, output

    def _law(self, away: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """gamma D^2 and gamma of each sample; a sample without error keeps its zero distance, with gamma 1."""
        options, n = self.options, away[0].numel()
        size = away.flatten(1).norm(dim=1)
        if options.normalised:
            wanted = options.eta * n**0.5
            gamma = wanted / (size if options.normaliser == "rms" else size.square())
            gamma = torch.where((size > 0) & gamma.isfinite(), gamma, 1.0)
        else:
            gamma = torch.full_like(size, options.gamma)
        return per_sample(gamma, away) * slopes.square(), gamma

    def exact(self) -> Rule:
        """The same rule with solved inverses: what an approximate one is compared with."""
        rule = type(self)(self.model, loss=self.loss, seed=self.seed, options=replace(self.options, inverse="solve"))
        rule.survey = self.survey
        return rule


@dataclass(frozen=True)
class TargetOptions(UpkeepOptions):
    """Options of ``tp``, those of ``UpkeepOptions``, and step: the output's target is a - step e, per sample.

    With the loss "mse" and step 1 that is the one-hot target itself.
    """

    step: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step > 0:
            raise InputError(f"step={self.step} is how far the output's target lies off; it is above 0")


@registry.register("tp")
class TargetPropagation(Inverted):
    """Target propagation: the output's target, run backwards through the whole network, teaches every layer.

        t_(l-1) = W_l^-1 (f^-1(t_l) - b_l),   t_L = a_L - step e;   dW_l = f'(z_l) (.) (a_l - t_l) h_l^T / step

    Gauss-Newton-like targets with exact inverses (GAIT is its small-step limit with the slopes squared). The output
    layer learns as by backpropagation; a mean over the batch. Trains what ``gait`` trains.
    Source: Bengio 2014; Ahmad, van Gerven and Ambrogioni 2020 (there with squared errors and step 1).
    """

    Options: ClassVar[type[Options]] = TargetOptions
    title = "tp"
    forward_only = True
    options: TargetOptions

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        self.without_local_objectives()

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
        announce(self.model, x, fresh=fresh)
        layers, output = ascend(self.links, self.units, self.by_number, x, tensors)
        value, error = errs(self.loss, output, y, not fresh)
        batch, step = x.shape[0], self.options.step
        t = output - error * (batch * step)
        given = {"multiplier": False, "guard": False, "scale": 1 / (batch * step)}
        teach(layers, t, tensors, write, lambda away, slopes: (None, None), **given)
        return value, output
