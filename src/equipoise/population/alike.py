"""What a population takes: runs that one computation can train together. All others are refused by a named line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.population import optimisers
from equipoise.rules import Rule
from equipoise.rules.inverses import Inverted
from equipoise.train import Run

__all__ = ["LINES", "Refused", "check_models", "check_rule", "check_runs", "scalars", "widest"]

# Every reason for which runs are trained one by one, by its name.
LINES = {
    "optimizer": "sgd, adam and adamw have a form for many members; others keep a state that is torch's own",
    "learned inverses": "the rule's inverses are parameters that learn beside the network, by a step of their own",
    "upkeep": "between steps the rule moves weights or decides, on the host, how its inverses are had",
    "balance": "balancing a network, and following how far from balance it is, is decided on the host",
    "step by step": "measures at chosen steps look at one network's batch before its update",
    "autocast": "bfloat16 autocast is decided for each call, not for each member",
    "different runs": "members share everything but seeds, rates, strengths, weights of losses and light",
    "different networks": "members are one architecture: the same layers with the same switches, inputs and outputs",
    "widths": "padded to the widest, a narrower member would not be its solo run; each width is a population",
    "no batched form": "the network holds an operation that torch cannot run for many members at once",
    "impure": "the rule's pure gradients are not the ones that it writes while it trains",
}
# What members may differ in; all else of a spec is shared.
FREE = frozenset(
    {
        *("experiment", "version", "preset", "model", "options", "seed", "init_batch", "perturb", "select"),
        *("lr", "group_rates", "optimizer_options", "scheduler", "scheduler_options", "decay", "clip_norm"),
        *("alignment_batch", "measures", "measure_batch"),
    }
)
SCALARS = frozenset({"local_weight"})
_INNER = frozenset({"_parameters", "_buffers", "_modules", "training", "_non_persistent_buffers_set"})
# Matter to an optimiser's groups, or to the start alone.
_ELSEWHERE = frozenset({"rate_factors", "seed"})


class Refused(InputError):
    """These runs cannot be one population; ``line`` names the reason in ``LINES``."""

    def __init__(self, line: str, detail: str) -> None:
        remedy = "make a population of each width" if line == "widths" else "train these runs one by one"
        super().__init__(f"no population ({line}): {detail}; {remedy}")
        self.line = line


def check_runs(runs: Sequence[Run]) -> None:
    """Raise ``Refused`` where the specs alone show that ``runs`` are no population."""
    if not runs:
        raise InputError("a population needs a run")
    first = runs[0]
    for run in runs:
        _check_run(run)
        for name, value in run.to_dict().items():
            if name not in FREE and value != getattr(first, name):
                raise Refused("different runs", f"'{name}' is {getattr(first, name)!r} in one and {value!r} in another")
        one, other = ({k: v for k, v in r.options.items() if k not in SCALARS} for r in (first, run))
        if one != other:
            raise Refused("different runs", f"the rule's options are {one} in one and {other} in another")
        if bool(run.optimizer_options.get("nesterov")) != bool(first.optimizer_options.get("nesterov")):
            raise Refused("different runs", "the optimizer option nesterov is on in one and off in another")


def _check_run(run: Run) -> None:
    kind = optimisers.kind(run.optimizer, run.optimizer_options)
    if isinstance(kind, str):
        raise Refused("optimizer", kind)
    if run.balance_start != "none" or run.balance_every or run.balance_repeats or run.trace_every:
        raise Refused("balance", "the run balances its network, or follows its balance")
    if run.measure_every:
        raise Refused("step by step", f"measure_every is {run.measure_every}")
    if run.precision == "bfloat16":
        raise Refused("autocast", "precision is bfloat16")


def check_rule(name: str, rule: Rule) -> None:
    """Raise ``Refused`` for a rule whose step is more than its pure gradients and the optimiser's update."""
    if rule.feedback_parameters():
        raise Refused("learned inverses", f"the rule '{name}' learns {len(rule.feedback_parameters())} tensors")
    if isinstance(rule, Inverted):
        if rule.backend not in ("solve", "transpose"):
            raise Refused("upkeep", f"the rule '{name}' has inverse='{rule.backend}'; a population can 'solve' them")
        if rule.options.upkeep != "none":
            raise Refused("upkeep", f"the rule '{name}' has upkeep='{rule.options.upkeep}'")
    elif type(rule).maintain is not Rule.maintain:
        raise Refused("upkeep", f"the rule '{name}' has a maintain of its own")


def check_models(models: Sequence[nn.Module]) -> None:
    """Raise ``Refused`` unless ``models`` are one architecture: the same layers and switches, widths aside."""
    first = list(models[0].named_modules())
    for model in models[1:]:
        other = list(model.named_modules())
        if [(n, type(m)) for n, m in first] != [(n, type(m)) for n, m in other]:
            raise Refused("different networks", "their layers are not the same")
        for (name, one), (_, two) in zip(first, other, strict=True):
            for line, key, a, b in _differing(one, two):
                raise Refused(
                    line,
                    f"layer '{name}' ({type(one).__name__}) has {key}={_short(a)} in one and {_short(b)} in another",
                )


def _differing(one: nn.Module, two: nn.Module) -> Iterator[tuple[str, str, Any, Any]]:
    """What two layers differ in that decides what they compute, widths aside, and the line that refuses it."""
    for kind in ("_parameters", "_buffers"):
        axes = [{k: None if t is None else t.ndim for k, t in getattr(m, kind).items()} for m in (one, two)]
        for key in sorted(axes[0].keys() | axes[1].keys()):
            if axes[0].get(key) != axes[1].get(key):
                yield "widths", key, axes[0].get(key), axes[1].get(key)
    widths = widest([one, two])
    for key in sorted(vars(one).keys() | vars(two).keys()):
        if key in _INNER or key in _ELSEWHERE or key in SCALARS or key in widths or key.endswith("_hooks"):
            continue
        a, b = vars(one).get(key), vars(two).get(key)
        if not _same(a, b):
            yield "different networks", key, a, b


def widest(layers: Sequence[nn.Module]) -> dict[str, Any]:
    """The attributes in which these layers differ as their widths do, with the greatest value of each.

    A width is a whole number that the shapes of the layer's own tensors show.
    """
    return {
        key: max(vars(layer)[key] for layer in layers)
        for key, value in vars(layers[0]).items()
        if type(value) is int
        and any(vars(layer).get(key) != value for layer in layers)
        and all(vars(layer).get(key) in _sizes(layer) for layer in layers)
    }


def _sizes(layer: nn.Module) -> set[Any]:
    """The lengths of the layer's own tensors along each axis, and how many elements a row of each has."""
    tensors = [t for held in (layer._parameters, layer._buffers) for t in held.values() if t is not None and t.ndim]
    return {length for t in tensors for length in t.shape} | {t[0].numel() for t in tensors if t.ndim > 1}


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and bool((a == b).all())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (hasattr(a, "__dict__") and not callable(a) and _same(vars(a), vars(b)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def scalars(rules: Sequence[Rule]) -> dict[tuple[str, str], list[float]]:
    """The weights of losses in which the members differ, by place: ("options", "local_weight"), or (layer, ...)."""
    found = {("options", "local_weight"): [rule.options.local_weight for rule in rules]}
    layers = [dict(rule.model.named_modules()) for rule in rules]
    for name, layer in layers[0].items():
        if isinstance(getattr(layer, "local_weight", None), (int, float)):
            found[f"layer {name}", "local_weight"] = [float(one[name].local_weight) for one in layers]  # type: ignore[arg-type]
    return {place: values for place, values in found.items() if len(set(values)) > 1}
