"""The bars: a name and the bound that its value must not exceed."""

from __future__ import annotations

from benchmarks.harness import Timing

BARS = {
    "rules.fa.fc_cifar.vs_bp": 1.10,
    "rules.dfa.fc_cifar.vs_bp": 1.05,
    "rules.fa.deep.vs_bp": 1.10,
    "rules.dfa.deep.vs_bp": 0.80,
    "rules.fa.conv.vs_bp": 1.10,
    "import.vs_torch": 1.25,
    "demo.seconds": 120.0,
}


def verdict(name: str, timing: Timing) -> str:
    """``holds`` when the interval's better end meets the bar, ``missed`` otherwise, empty where there is none."""
    if name not in BARS:
        return ""
    better = timing.value if timing.low is None else timing.low
    return "holds" if better <= BARS[name] else "missed"
