"""The bars: a name and the bound that its value must not exceed."""

from __future__ import annotations

from benchmarks.harness import Timing

BARS = {
    "rules.fa.fc_cifar.vs_bp": 1.10,
    "rules.dfa.fc_cifar.vs_bp": 1.05,
    "rules.fa.deep.vs_bp": 1.10,
    "rules.dfa.deep.vs_bp": 0.80,
    "rules.fa.conv.vs_bp": 1.10,
    "rules.drtp.fc_cifar.vs_bp": 1.05,
    "rules.drtp.deep.vs_bp": 0.80,
    "rules.pepita.fc_cifar.vs_bp": 1.15,
    "rules.pepita.deep.vs_bp": 1.0,
    "rules.pepita.conv.vs_bp": 1.2,
    "rules.pepita.memory_vs_bp": 1.0,
    "balance.autoencoder.weight_passes": 70.0,
    "balance.deep30.weight_passes": 250.0,
    "balance.newton.vs_cyclic": 1 / 10,
    "balance.newton.vs_neuronwise": 1 / 100,
    "balance.vgg16.vs_forward": 8.0,
    "balance.vgg16.extra_memory": 0.6,
    "inorm.inorm_center.vs_layernorm": 1.55,
    "inorm.epoch_over_matmul": 1.8,
    "eisnn.lif.vs_loop": 1 / 2,
    "eisnn.vgg16.vs_bn": 1.40,
    "eisnn.vgg16.vs_plain": 1 / 1.1,
    "eisnn.vgg16.memory_vs_bn": 1.5,
    "gait.deep.vs_bp": 2.0,
    "gait.deep.degrees_to_exact": 0.5,
    "gait.deep.no_upkeep.vs_bp": 1.8,
    "gait.deep.no_upkeep.degrees_to_exact": 0.5,
    "gait.deep.trained.vs_bp": 2.0,
    "gait.deep.trained.degrees_to_exact": 0.5,
    "gait.conv.vs_bp": 3.0,
    "sweep.population.gpu.vs_sequential": 1 / 100,
    "sweep.inorm_paper.gpu_minutes": 30.0,
    "sweep.overhead": 0.03,
    "sweep.processes.vs_sequential": 1 / 1.9,
    "import.vs_torch": 1.25,
    "demo.seconds": 120.0,
}


def verdict(name: str, timing: Timing) -> str:
    """``holds`` when the interval's better end meets the bar, ``missed`` otherwise, empty where there is none."""
    if name not in BARS:
        return ""
    better = timing.value if timing.low is None else timing.low
    return "holds" if better <= BARS[name] else "missed"
