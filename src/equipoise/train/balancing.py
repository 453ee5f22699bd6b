"""What a run does about synaptic balance: balancing its network, and following how far from balance training leads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise.balance.costs import Lp
from equipoise.balance.graph import ScalingGraph, graph
from equipoise.balance.solve import balance_
from equipoise.balance.sums import Sums, UnitSums
from equipoise.balance.training import Balancer, SGDLaw
from equipoise.measure import Measure, measures
from equipoise.train.parts import Parts
from equipoise.train.penalties import strengths

__all__ = ["Balancing", "balancing", "numbers", "scaling_graph"]

TOLERANCE = 1e-10


def seen(parts: Parts) -> Tensor:
    """Two training samples, on which the model's scaling graph is traced."""
    index = torch.arange(min(2, len(parts.train)), device=parts.train.labels.device)
    return parts.batch(parts.train, index)[0]


def scaling_graph(parts: Parts) -> ScalingGraph:
    """The scaling graph of the run's model."""
    return graph(parts.model, seen(parts))


def balancing(parts: Parts) -> Balancing | None:
    """What the run asks for; None where it asks for nothing."""
    run = parts.run
    wanted = run.balance_start != "none" or run.balance_every or run.trace_every
    return Balancing(parts) if wanted and not run.balance_repeats else None


class Balancing:
    """Called by the loop around each step; ``trace`` holds a row for every ``trace_every``-th step, the first included.

    A row has what stands before its step: "step" (the updates done), "loss" (the mean over the steps since the last
    row, its own included), and ``numbers``. Under plain SGD without any penalty but l2 it also has "law" and
    "law_share": the deficits as the law of SGD foretells them, from the weights at the start and the gradients since
    (``SGDLaw``).
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self.run = parts, parts.run
        self.graph = scaling_graph(parts)
        self.sums = UnitSums(self.graph)
        self.powers = strengths(self.run.decay)
        self.trace: list[dict[str, Any]] = []
        self._balancer = Balancer(
            parts.model,
            every=self.run.balance_every,
            at_start=False,
            p=self.run.balance_p,
            tol=TOLERANCE,
            optimizer=parts.optimizer,
            scaling=self.graph,
        )
        self._law = SGDLaw(self.sums) if self._lawful() else None
        self._losses: list[float] = []

    def begin(self) -> None:
        """Before the first step: what ``balance_start`` asks for."""
        if self.run.balance_start == "balance":
            self._balancer.balance()
        elif self.run.balance_start == "norms":
            _match_norms_(self.parts.model, self.run.balance_p, seen(self.parts))
        if self._law is not None:
            self._law = SGDLaw(self.sums)

    def before_step(self, step: int, loss: Tensor) -> None:
        """After the gradients of the loss, before any penalty joins them; ``step`` updates are done."""
        if self.run.trace_every:
            self._losses.append(float(loss))
            if step % self.run.trace_every == 0:
                self._add(step, {"loss": sum(self._losses) / len(self._losses)})
                self._losses.clear()
        if self._law is not None:
            lr = self.parts.optimizer.param_groups[0]["lr"]
            self._law.step(lr=lr, decay=self.powers.get(2.0, 0.0))

    def after_step(self) -> None:
        """After the update."""
        self._balancer.step()

    def end(self, step: int) -> None:
        """After the last step: a last row, with the mean loss of the steps since the one before."""
        if self.run.trace_every and (not self.trace or self.trace[-1]["step"] != step):
            self._add(step, {"loss": sum(self._losses) / len(self._losses)} if self._losses else {})

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        law = None if self._law is None else self._law.difference
        return {"trace": self.trace, "losses": self._losses, "steps": self._balancer.steps, "law": law}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.trace, self._losses = list(state["trace"]), list(state["losses"])
        self._balancer.steps = int(state["steps"])
        if self._law is not None:
            self._law.difference = state["law"].to(self._law.difference)

    def _add(self, step: int, row: dict[str, Any]) -> None:
        found = {"step": step, **row, **numbers(self.sums, self.powers)}
        if self._law is not None:
            total = self.sums.weights()
            share = self._law.difference.abs().sum() / (total.incoming + total.outgoing).sum()
            found |= {"law": self._law.deficit, "law_share": float(share)}
        self.trace.append(found)

    def _lawful(self) -> bool:
        """Whether this is plain SGD at one rate, and nothing else moves the weights."""
        run, groups = self.run, self.parts.optimizer.param_groups
        others = {key for key, value in run.optimizer_options.items() if value and key not in ("foreach", "fused")}
        plain = run.optimizer.lower() == "sgd" and not others and len(groups) == 1
        return bool(run.trace_every) and plain and set(self.powers) <= {2.0} and not run.balance_every


def numbers(sums: UnitSums, powers: Mapping[float, float] | None = None) -> dict[str, float]:
    """How large the weights are and how far from balance, under the squared and the absolute cost.

    norm: of all weights that scale, sqrt(sum w^2). deficit: sum over units of (IN - OUT)^2 with squared weights;
    share: sum |IN - OUT| / sum (IN + OUT); share/<layer>: of one layer's units. norm_l1, deficit_l1, share_l1: the same
    of |w|. With two or more ``powers`` (strengths s by power p) also deficit_mixed and share_mixed, of
    sum_p s_p |w|^p, whose balance is that of the penalty sum_p s_p / p |w|^p.
    """
    params = dict(sums.graph.model.named_parameters())
    held = [params[use.name].detach() for use in sums.graph.uses]
    squares, sizes = sums.weights(2.0), sums.weights(1.0)
    found = {"norm": float(torch.stack([w.double().square().sum() for w in held]).sum().sqrt())}
    found |= {"deficit": squares.deficit, "share": squares.share}
    found |= {f"share/{name}": squares.of(units).share for name, units in sums.layers.items()}
    found["norm_l1"] = float(torch.stack([w.double().abs().sum() for w in held]).sum())
    found |= {"deficit_l1": sizes.deficit, "share_l1": sizes.share}
    if powers is not None and len(powers) > 1:
        parts = [(strength, sums.weights(p)) for p, strength in powers.items()]
        incoming, outgoing = (
            torch.stack([strength * getattr(one, side) for strength, one in parts]).sum(0)
            for side in ("incoming", "outgoing")
        )
        mixed = Sums(incoming, outgoing)
        found |= {"deficit_mixed": mixed.deficit, "share_mixed": mixed.share}
    return found


@torch.no_grad()
def _match_norms_(model: torch.nn.Module, p: float, example: Tensor) -> None:
    """Give each parameter of ``model`` the norm that balancing would give it, its direction left as it is."""
    twin = copy.deepcopy(model)
    balance_(twin, Lp(p), tol=TOLERANCE, example=example)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        size = mine.norm()
        if size > 0:
            mine.mul_(theirs.norm() / size)


def _balance(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    return numbers(UnitSums(graph(rule.model, x[:2])))


measures.register("balance")(
    Measure("balance", _balance, "epoch", "norm of the weights, balance deficits in all and per layer, under L2 and L1")
)
