"""Sabotages of balance in training: the law of SGD, orders, moments, penalties, runs that balance, and their figures."""

from tests.mutants import Mutant

BALANCE, TRAIN, PAPERS = "src/equipoise/balance", "src/equipoise/train", "src/equipoise/papers/balance"
LAW, RUNS = ("tests/identity/test_balance_training.py",), ("tests/identity/test_balance_runs.py",)
SPECS, SHOWN = ("tests/papers/test_balance_specs.py",), ("tests/reliability/test_balance_exhibits.py",)

MUTANTS = (
    Mutant("training/law-of-the-flow", f"{BALANCE}/training.py", "lr**2 * gradients", "lr * gradients", LAW),
    Mutant("training/law-decays-once", f"{BALANCE}/training.py", "(1 - lr * decay) ** 2", "(1 - lr * decay)", LAW),
    Mutant(
        "training/moments-forget-squares", f"{BALANCE}/training.py", "2 if name in _SECOND", "1 if name in _SECOND", LAW
    ),
    Mutant("training/moments-follow-the-weights", f"{BALANCE}/training.py", "torch.exp(-order", "torch.exp(order", LAW),
    Mutant(
        "training/never-waits-out",
        f"{BALANCE}/training.py",
        "self.lowest, self.waited = value, 0",
        "self.lowest = value",
        RUNS,
    ),
    Mutant("training/loops-count", f"{BALANCE}/sums.py", "if loops is not None:", "if False:", LAW),
    Mutant(
        "training/powers-count-once",
        f"{BALANCE}/sums.py",
        "total = total + positive @ first",
        "total = total + 0 * positive @ first",
        LAW,
    ),
    Mutant(
        "training/order-shared-by-all", f"{BALANCE}/orders.py", "torch.rand(self.repeats, len", "torch.rand(1, len", LAW
    ),
    Mutant(
        "training/visit-without-the-root",
        f"{BALANCE}/orders.py",
        "(outgoing / incoming).sqrt_()",
        "(outgoing / incoming)",
        LAW,
    ),
    Mutant(
        "training/distance-from-the-start",
        f"{BALANCE}/orders.py",
        "a = self.log_scales - self.target",
        "a = self.log_scales",
        LAW,
    ),
    Mutant("training/penalty-doubled", f"{TRAIN}/penalties.py", "alpha=strength", "alpha=2 * strength", RUNS),
    Mutant(
        "training/control-is-balanced",
        f"{TRAIN}/balancing.py",
        "mine.mul_(theirs.norm() / size)",
        "mine.copy_(theirs)",
        RUNS,
    ),
    Mutant(
        "training/trace-after-the-penalty",
        f"{TRAIN}/balancing.py",
        "step % self.run.trace_every == 0",
        "step % self.run.trace_every == 1",
        RUNS,
    ),
    Mutant(
        "training/law-under-momentum",
        f"{TRAIN}/balancing.py",
        "and not others and len(groups) == 1",
        "and len(groups) == 1",
        RUNS,
    ),
    Mutant(
        "training/forgets-its-scales",
        f"{TRAIN}/sweeps.py",
        'self.orders.log_scales, self.trace = saved["log_scales"], list(saved["trace"])',
        'self.trace = list(saved["trace"])',
        RUNS,
    ),
    Mutant("training/rounds-to-seven-bits", f"{TRAIN}/quantising.py", "LEVELS = 127", "LEVELS = 63", RUNS),
    Mutant(
        "training/output-without-relu", "src/equipoise/models/balanced.py", "else style.after()[:1]", "else []", SPECS
    ),
    Mutant(
        "training/kernels-of-seven",
        "src/equipoise/models/balanced.py",
        "(8, 8, height // 4, 1)",
        "(8, 8, height // 4 - 1, 1)",
        SPECS,
    ),
    Mutant("training/batch-of-the-other", f"{PAPERS}/networks.py", "batch_size=200", "batch_size=100", SPECS),
    Mutant(
        "training/starts-as-drawn",
        f"{PAPERS}/studies.py",
        '"balance_start": "balance"',
        '"balance_start": "none"',
        SPECS,
    ),
    Mutant(
        "training/l1-panel-of-squares", f"{PAPERS}/figures_paper.py", '(L1, "|w|", "_l1")', '(L1, "|w|", "")', SHOWN
    ),
    Mutant("training/lowest-rate-is-best", f"{PAPERS}/figures_uses.py", "best = max(rates", "best = min(rates", SHOWN),
)
