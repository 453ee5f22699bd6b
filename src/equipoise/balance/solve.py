"""``balance_`` and ``deficit``: from a model to its balanced weights, all or nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from equipoise.balance.apply import apply_scales
from equipoise.balance.costs import CostRule, Lp, terms_by_name
from equipoise.balance.existence import remove_unsolvable
from equipoise.balance.layout import Layout, place
from equipoise.balance.methods import Options, methods
from equipoise.balance.newton import Progress, Solution
from equipoise.balance.problem import Marginals, Problem
from equipoise.balance.reduce import largest_size, reduce
from equipoise.balance.report import BalanceReport, Deficit, Layer, Skipped
from equipoise.balance.tied import coordinate
from equipoise.errors import InputError

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["balance_", "deficit"]


@dataclass(frozen=True)
class Prepared:
    """A graph and its problem without units that have no minimiser (why, by index).

    weights, layouts, sizes: by name the parameters that scale, their classes, and their largest |w|.
    """

    graph: ScalingGraph
    weights: Mapping[str, Tensor]
    layouts: dict[str, Layout]
    sizes: dict[str, float]
    problem: Problem
    why: dict[int, str]

    @functools.cached_property
    def classes_by_layer(self) -> dict[str, Tensor]:
        """The class of every unit of each layer."""
        of_node = self.problem.classes.of_node
        return {units.name: of_node[units.nodes.to(of_node.device)] for units in self.graph.units}

    def by_layer(self, values: Tensor) -> dict[str, Tensor]:
        """Values of the classes (C,) as each layer's units see them."""
        return {name: values[classes] for name, classes in self.classes_by_layer.items()}

    def skipped(self) -> tuple[Skipped, ...]:
        """The units that were taken out, layer by layer and reason by reason."""
        found: list[Skipped] = []
        if not self.why:
            return ()
        for name, classes in self.classes_by_layer.items():
            reasons: dict[str, list[int]] = {}
            for unit, k in enumerate(classes.flatten().tolist()):
                if k - 1 in self.why:
                    reasons.setdefault(self.why[k - 1], []).append(unit)
            found += [Skipped(name, tuple(units), why) for why, units in reasons.items()]
        return tuple(found)


def balance_(
    model: nn.Module | ScalingGraph,
    cost: CostRule | None = None,
    *,
    p: float | None = None,
    method: str = "newton",
    tol: float = 1e-10,
    criterion: str = "minimum",
    groups: Sequence[Any] | None = None,
    include_bias_cost: bool = True,
    weights: Mapping[str, float] | None = None,
    example: Any = None,
    frozen: Sequence[str] = (),
    graph: ScalingGraph | None = None,
    max_iterations: int | None = None,
    strength: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> BalanceReport:
    """Rescale the units of ``model`` in place so that its function stays and its cost is the least possible.

    Every weight w_e from unit j to unit i becomes w_e exp(v_i - v_j), where v minimises F(v) = sum_e g(w_e exp(v_i -
    v_j)); there the cost that enters each unit equals the cost that leaves it (Theorem 5.1). ``cost`` is g: ``Lp(2)``
    by default (``p=`` for short), a ``Mixture``, or a dict of these by parameter name or glob; ``weights`` multiplies
    it by parameter. Biases are always scaled; ``include_bias_cost`` says whether they cost anything.

    method: newton, cyclic, parallel, stochastic (order by ``seed``), or tied (one scale for a whole layer). tol: on the
    largest relative deficit |IN - OUT| / (IN + OUT). criterion: ``minimum``, or ``equal_cost``, Theorem D.2's balance
    of sum_IN g = sum_OUT g, which is not the minimiser except for one Lp. groups: sets of units that share one scale
    (coordinated balancing): layer names, or pairs (layer name, indices). strength: the share 0 < theta <= 1 of the best
    log-scale that cyclic, parallel and stochastic steps take. progress: called with (iteration, cost, deficit).
    example, frozen: as in ``graph``; ``graph`` (or a ``ScalingGraph`` as model) saves the trace.

    Units without a best scale (no path of non-zero weights through them) are skipped and reported. The weights are
    solved for in float64 and written in their own dtype, all or none.

    Raises: InputError, the model untouched, where nothing can be scaled, a weight is not finite, the tolerance cannot
    be met, a scaled weight does not fit its dtype, or a name or number is not one that exists.
    """
    rule = _rule(cost, p)
    methods[method]
    if not (isinstance(tol, int | float) and 0 < tol < 1):
        raise InputError(f"tol must lie between 0 and 1, got {tol!r}")
    options = Options(tol=tol, max_iterations=max_iterations, strength=strength, seed=seed, progress=progress)
    found = traced(model if graph is None else graph, example, frozen)
    with torch.inference_mode():
        ready = prepare(
            found,
            rule,
            include_bias_cost=include_bias_cost,
            weights=weights,
            criterion=criterion,
            groups=groups,
            tied=method == "tied",
        )
        before, solution = _solved(ready, method, options)
        u = ready.problem.classes.spread(solution.z)
        layers = _layers(ready, before, solution.at, u)
    apply_scales(ready.weights, ready.layouts, u, ready.problem.gone, ready.sizes)
    return BalanceReport(
        method=method,
        cost=str(rule) if not isinstance(rule, Mapping) else "cost",
        cost_before=ready.problem.total(before),
        cost_after=ready.problem.total(solution.at),
        deficit_before=before.deficit,
        deficit=solution.at.deficit,
        iterations=solution.iterations,
        weight_passes=ready.problem.weight_passes,
        log_scales={name: v.cpu() for name, v in ready.by_layer(u).items()},
        layers=layers,
        skipped=ready.skipped(),
    )


def _solved(ready: Prepared, method: str, options: Options) -> tuple[Marginals, Solution]:
    """The marginals at the start, and the solution; refused where there is none to the tolerance."""
    problem = ready.problem
    if not problem.classes.free or bool(problem.skipped.all()):
        reasons = "; ".join(str(entry) for entry in ready.skipped()[:3])
        raise InputError(
            f"no unit of the model can be scaled{': ' + reasons if reasons else ''}; see balance.graph(model)"
        )
    start = problem.zero()
    before = problem.marginals(start)
    if not before.finite:
        raise InputError("the model's cost is beyond float64; take a smaller p")
    found = methods[method](problem, start, before, options)
    if not found.at.deficit <= options.tol:
        raise InputError(
            f"the tolerance {options.tol:g} was not met: {method} stopped at a deficit of {found.at.deficit:.3g} after "
            f"{found.iterations} iterations; the model is unchanged. Take a larger tol or more max_iterations"
        )
    return before, found


def deficit(
    model: nn.Module | ScalingGraph,
    cost: CostRule | None = None,
    *,
    p: float | None = None,
    criterion: str = "minimum",
    groups: Sequence[Any] | None = None,
    include_bias_cost: bool = True,
    weights: Mapping[str, float] | None = None,
    example: Any = None,
    frozen: Sequence[str] = (),
    graph: ScalingGraph | None = None,
) -> Deficit:
    """How far ``model`` is from balance: D = sum over units of (IN - OUT)^2, and max |IN - OUT| / (IN + OUT).

    Units without a best scale count nowhere. Arguments and errors as in ``balance_``.
    """
    ready = prepare(
        traced(model if graph is None else graph, example, frozen),
        _rule(cost, p),
        include_bias_cost=include_bias_cost,
        weights=weights,
        criterion=criterion,
        groups=groups,
    )
    problem = ready.problem
    at = problem.marginals(problem.zero())
    if not at.finite:
        raise InputError("the model's cost is beyond float64; take a smaller p")
    difference = at.inward - at.outward
    values = at.inward.new_zeros(problem.classes.count)
    values[1 : 1 + problem.classes.free] = at.relative * difference.sign()
    return Deficit(
        total=float((difference * problem.unit).square().sum()),
        max_relative=at.deficit,
        cost=problem.total(at),
        per_class={name: v.cpu() for name, v in ready.by_layer(values).items()},
        skipped=ready.skipped(),
    )


def prepare(
    graph: ScalingGraph,
    rule: CostRule,
    *,
    include_bias_cost: bool = True,
    weights: Mapping[str, float] | None = None,
    criterion: str = "minimum",
    groups: Sequence[Any] | None = None,
    tied: bool = False,
) -> Prepared:
    """Reduce the weights of a traced model, and take out the units that have no minimiser."""
    if (name := graph.stale) is not None:
        raise InputError(f"'{name}' is no longer 0 where it was when its graph was made; trace the model again")
    found = dict(graph.model.named_parameters())
    device = next((found[use.name].device for use in graph.uses if use.name in found), torch.device("cpu"))
    shapes = {name: w.shape for name, w in found.items()}
    if groups or tied:
        classes, layouts = place(graph.uses, coordinate(graph, groups or (), tied=tied), shapes, device)
    elif graph.placed[0].of_node.device == device:
        classes, layouts = graph.placed
    else:
        classes, layouts = place(graph.uses, graph.rows, shapes, device)
    costing = [n for n in layouts if n not in graph.excluded]
    if not include_bias_cost:
        biases = {use.name for use in graph.uses if use.bias}
        costing = [n for n in costing if n not in biases]
    terms = terms_by_name(rule, costing, weights=weights, criterion=criterion, known=list(found))
    chosen = {n: found[n] for n in layouts}
    sizes = {n: largest_size(w, n) for n, w in chosen.items()}
    problem = reduce(chosen, layouts, classes, terms, sizes)
    return Prepared(graph, chosen, layouts, sizes, problem, remove_unsolvable(problem))


def _rule(cost: CostRule | None, p: float | None) -> CostRule:
    if p is not None and cost is not None:
        raise InputError("give a cost or p, not both")
    return Lp(2.0 if p is None else p) if cost is None else cost


def traced(model: nn.Module | ScalingGraph, example: Any = None, frozen: Sequence[str] = ()) -> ScalingGraph:
    """The scaling graph of ``model``, or ``model`` itself where it is one."""
    from equipoise.balance.graph import ScalingGraph, graph

    if isinstance(model, ScalingGraph):
        return model
    return graph(model, example, frozen=frozen)


def _layers(ready: Prepared, before: Marginals, after: Marginals, u: Tensor) -> tuple[Layer, ...]:
    """One row of the report's table for each layer with scaled units; a shared log-scale counts once in each."""
    problem = ready.problem
    count, names = problem.classes.count, list(ready.classes_by_layer)
    sizes = torch.tensor([c.numel() for c in ready.classes_by_layer.values()], device=u.device)
    classes = torch.cat([c.flatten() for c in ready.classes_by_layer.values()])
    layer = torch.arange(len(names), device=u.device).repeat_interleave(sizes)
    live = torch.zeros(count, dtype=torch.bool, device=u.device)
    live[1 : 1 + problem.classes.free] = ~problem.skipped
    keys = torch.unique((layer * count + classes)[live[classes]])
    layer, at = keys // count, keys % count - 1
    sums = torch.stack([before.inward, before.outward, after.inward, after.outward])[:, at] * problem.unit
    sums = sums.new_zeros(4, len(names)).index_add_(1, layer, sums).T.tolist()
    tops = torch.stack([before.relative[at], after.relative[at], -u[1 + at], u[1 + at]])
    lowest = tops.new_full((4, len(names)), -math.inf)
    tops = lowest.scatter_reduce_(1, layer.expand(4, -1), tops, "amax").T.tolist()
    units = torch.bincount(layer, minlength=len(names)).tolist()
    return tuple(
        Layer(name, n, s[0], s[1], s[2], s[3], t[0], t[1], math.exp(-t[2]), math.exp(t[3]))
        for name, n, s, t in zip(names, units, sums, tops, strict=True)
        if n
    )
