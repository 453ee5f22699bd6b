"""Direct feedback: every hidden layer hears the output's error itself; and its control, which hears nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.functional.feedback import project_error
from equipoise.functional.losses import one_hot
from equipoise.rules.base import Credit, Options, Rule, Write
from equipoise.rules.chain import chain_pass, is_chain
from equipoise.rules.descent import dense_links, descend, unwatched
from equipoise.rules.links import has_own_forward
from equipoise.rules.make import registry
from equipoise.rules.survey import Survey
from equipoise.rules.tape import another_path

__all__ = ["DirectFeedback", "DirectOptions", "DirectRandomTargets", "Shallow", "TargetOptions"]


class Sited(Rule):
    """A rule that cuts the graph at sites: the inputs of weighted operations that depend on earlier weights."""

    sites = True

    def site_names(self, found: Survey) -> list[str]:
        """One name per hidden site, in the order of the forward pass; a weight used again gets #2, #3."""
        names: list[str] = []
        used: dict[str, int] = {}
        for site in found.sites:
            if site.hidden:
                owner = site.name.rsplit(".", 1)[0] if "." in site.name else site.name
                times = used.get(owner, 0)
                used[owner] = times + 1
                names.append(owner if times == 0 else f"{owner}#{times + 1}")
        return names

    def prepare(self, found: Survey, x: Tensor) -> None:
        """Refuse a model without hidden sites, or whose output bypasses the last one."""
        if not any(site.hidden for site in found.sites):
            raise InputError(
                "the model has no hidden layer: no weighted operation follows another, so there is no site to "
                "direct an error to; use rule 'bp'"
            )

    def cut_pass(
        self, x: Tensor, tensors: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The output of the model with every hidden site cut, and the sites' tensors before the cut."""
        assert self.survey is not None
        listened = self.model._forward_hooks or self.model._forward_pre_hooks or has_own_forward(self.model)
        if not noise and not listened and is_chain(self.model, len(self.survey.sites)):
            return chain_pass(self.model, x, [site.hidden for site in self.survey.sites])
        heard: list[Tensor] = []
        cuts = [(site.name, site.hidden) for site in self.survey.sites]
        output = self.forward_pass(x, tensors, noise=noise, cuts=cuts, heard=heard)
        if len(heard) < sum(cut for _, cut in cuts):
            raise another_path(cuts[-1][0], "nothing")
        return output, heard

    def look(self, x: Tensor) -> Survey:
        """Survey the model; then check once, with the error withheld, that the sites catch every path."""
        found = super().look(x)
        tensors = self.slots.copies()
        devices = [x.device] if x.device.type == "cuda" else []
        with self.slots.filled(tensors), torch.random.fork_rng(devices=devices), torch.enable_grad():
            output, heard = self.cut_pass(x, tensors, {})
            live = {n: h for n, h in zip(self.site_names(found), heard, strict=True) if h.requires_grad}
            passed = torch.autograd.grad(output.sum(), list(live.values()), allow_unused=True) if live else ()
        for name, gradient in zip(live, passed, strict=True):
            if gradient is not None:
                self.survey = None
                raise InputError(
                    f"the input of '{name}' also reaches the output by a path that was split off before it, so its "
                    "error cannot be replaced there; split the path off after the layer is called, or use rule 'fa'"
                )
        return found


@dataclass(frozen=True)
class DirectOptions(Options):
    """Options of ``dfa``.

    law, scale: distribution of the feedback and a factor on it. sign: send the sign of the error instead (sDFA).
    hidden_scale: multiplies every hidden error; the DRTP authors' code replaces batch means by sums, which for the
    cross-entropy is hidden_scale = batch size (errata F1).
    """

    law: str = "kaiming_uniform"
    scale: float = 1.0
    sign: bool = False
    hidden_scale: float = 1.0


@registry.register("dfa")
class DirectFeedback(Sited):
    """Direct feedback alignment: a fixed random matrix carries the output error straight to each site.

        dL/dh_l := B_l e,   e = dL/dy,   B_l (n_l, C) fixed     (sign form: B_l sign(e) / B, B the batch)

    A site h_l is the input of a weighted operation (after pooling, flattening, dropout), with skips that read it;
    between sites autograd is kept, the identity path of a pre-activation residual network included. A layer used
    twice has one B per use. Source: Nokland 2016; default entries within sqrt(6 / n_l), n_l the values of the site.
    """

    Options: ClassVar[type[Options]] = DirectOptions
    drawn_at_look = True
    options: DirectOptions

    def prepare(self, found: Survey, x: Tensor) -> None:
        """Draw B for each hidden site."""
        super().prepare(found, x)
        links = dense_links(self.model, self.slots)
        self.names = [link.name for link in links]
        self.links = links if self.site_names(found) == self.names[1:] else ()
        hidden = [site for site in found.sites if site.hidden]
        for name, site in zip(self.site_names(found), hidden, strict=True):
            if site.rows == 0:
                raise InputError(
                    f"the input of '{site.name}' has shape {site.shape}: its first axis is not the batch (or k rows a "
                    "sample, time-major), so no error can be directed to it; keep the batch first, or use rule 'fa'"
                )
            n = site.values
            self.keep(name, (n, found.classes), law=self.options.law, fan_in=n, scale=self.options.scale)

    def credit(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> Credit:
        output, heard = self.cut_pass(x, tensors, noise)
        sent = self.message(self.loss.error(output.detach(), y).detach(), y)
        assert self.survey is not None
        names = self.site_names(self.survey)
        roots = [(h, project_error(sent, feedback[n], h)) for n, h in zip(names, heard, strict=True)]
        return self.answer(output, y, roots)

    def message(self, error: Tensor, y: Tensor) -> Tensor:
        """What every site hears, (B, C), of the error dL/dy."""
        sent = error.sign() / error.shape[0] if self.options.sign else error
        return sent if self.options.hidden_scale == 1 else sent * self.options.hidden_scale

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
        if not self.links or not unwatched(self.model, x):
            return None
        self._same_rates(self.links)
        sent: list[Tensor] = []

        def carry(k: int, g: Tensor, error: Tensor, h: Tensor) -> Tensor:
            if not sent:
                sent.append(self.message(error, y))
            return project_error(sent[0], feedback[self.names[k]], h)

        return descend(self.links, x, y, tensors, noise, self.loss, carry, write)


@dataclass(frozen=True)
class TargetOptions(Options):
    """Options of ``drtp``: law and scale of the feedback, hidden_scale as in ``dfa`` (errata F1)."""

    law: str = "kaiming_uniform"
    scale: float = 1.0
    hidden_scale: float = 1.0


@registry.register("drtp")
class DirectRandomTargets(DirectFeedback):
    """Direct random target projection: each site hears the target itself, so no layer waits for the output.

        dL/dh_l := B_l t / B,   t the one-hot target, B_l (n_l, C) fixed, B the batch

    The output layer learns from its error. Sites as in ``dfa``. The sign is a convention: the law of B_l is symmetric.
    Source: Frenkel, Lefebvre and Bol 2021 (there with tanh or sigmoid hidden units, and hidden gradients summed over
    the batch: ``hidden_scale`` = batch size).
    """

    Options: ClassVar[type[Options]] = TargetOptions
    options: TargetOptions  # type: ignore[assignment]

    def message(self, error: Tensor, y: Tensor) -> Tensor:
        return one_hot(y, error) * (self.options.hidden_scale / error.shape[0])


@registry.register("shallow")
class Shallow(Sited):
    """Only the output layer learns: direct feedback with every B = 0, the control that a rule has to beat.

    Hidden parameters get no gradient at all (``.grad`` stays as it was), so no optimiser moves them.
    """

    def credit(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> Credit:
        output, _ = self.cut_pass(x, tensors, noise)
        return self.answer(output, y)
