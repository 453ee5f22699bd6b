"""``rules.<rule>.memory_vs_bp``: peak bytes of activations in one step over those of a plain step, deep network.

Counted, not timed: every allocation and release of the step as torch's profiler reports it, without the gradients,
which both sides need (they are told by their size, that of a parameter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.baselines import NETS, bp_step
from benchmarks.harness import Once
from benchmarks.rules import rule_step

RULES = ("fa", "dfa", "drtp", "pepita")


def peak_bytes(step: Callable[[], None], model: nn.Module) -> int:
    """The most bytes that ``step`` holds at once, beyond what it found and its gradients."""
    for _ in range(2):
        step()
    gradients = {p.numel() * p.element_size() for p in model.parameters()}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        if abs(event.nbytes()) not in gradients:
            held += event.nbytes()
            most = max(most, held)
    return most


def ratio(rule: str) -> float:
    """Peak of the rule's step over that of the plain step."""
    net = NETS["deep"]
    ours, plain = net.model(), net.model()
    return peak_bytes(rule_step(rule, ours, net), ours) / peak_bytes(bp_step(plain, net.batches()), plain)


def cases() -> Iterator[tuple[str, Callable[[], Once]]]:
    """Names, and what counts when its turn comes."""
    for rule in RULES:
        yield f"rules.{rule}.memory_vs_bp", lambda rule=rule: Once(lambda: ratio(rule))
