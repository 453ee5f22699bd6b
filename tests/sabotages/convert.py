"""Sabotages of conversion, changing light, paired tests and the networks that the I-Norm experiments compare."""

from tests.mutants import Mutant

CONVERT, LOOK = "src/equipoise/nn/convert.py", "src/equipoise/nn/conversions.py"
FUSED, LIGHT = ("tests/identity/test_convert.py",), ("tests/identity/test_luminance.py",)
PAIRS = ("tests/reference/test_pairs.py",)

MUTANTS = (
    Mutant("convert/rows-move-down", CONVERT, "(-drive.amin(0)).clamp(min=0)", "(-drive.amin(0)).clamp(max=0)", FUSED),
    Mutant("convert/each-unit-its-own-row", CONVERT, "drive = drive + moved", "drive = drive.clamp(min=0)", FUSED),
    Mutant("convert/bias-forgotten", CONVERT, "ahead.append(Tonic(dim=dim))", "drive = weight.detach()", FUSED),
    Mutant(
        "convert/tap-in-the-corner", CONVERT, "kernel[:, 0, height, width] = bias", "kernel[:, 0, 0, 0] = bias", FUSED
    ),
    Mutant("convert/gain-forgotten", CONVERT, "behind.append(Gain(gain, shift, dim=dim))", "pass", FUSED),
    Mutant("convert/always-dale", CONVERT, "pair.rates if low is None else low >= 0", "True", FUSED),
    Mutant("convert/always-in-place", CONVERT, "model if inplace else copy.deepcopy(model)", "model", FUSED),
    Mutant("convert/tied-weights", CONVERT, "if len(names) > 1:", "if False:", FUSED),
    Mutant("convert/read-twice", LOOK, "or len(before.users) != 1", "or len(before.users) > 9", FUSED),
    Mutant(
        "convert/any-input-is-a-rate",
        LOOK,
        "            if not isinstance(module, TRANSPARENT):",
        "            if False:",
        FUSED,
    ),
    Mutant("convert/norm-of-another-axis", CONVERT, "if conv and type(norm) is nn.LayerNorm:", "if False:", FUSED),
    Mutant(
        "light/one-shift-for-a-batch",
        "src/equipoise/data/luminance.py",
        "return torch.stack([self.shift * unit[0],",
        "return torch.stack([self.shift * unit[0, :1].expand(count),",
        LIGHT,
    ),
    Mutant("light/not-clamped", "src/equipoise/data/luminance.py", ".clamp_(0, 1)", "", LIGHT),
    Mutant("light/the-same-every-step", "src/equipoise/train/loop.py", '"light", self.step', '"light", 0', LIGHT),
    Mutant(
        "light/another-test-set-a-seed",
        "src/equipoise/train/parts.py",
        'light.fixed(test, "test")',
        'light.fixed(test, f"test{run.seed}")',
        LIGHT,
    ),
    Mutant(
        "rates/all-the-same",
        "src/equipoise/nn/constraints.py",
        "rate = rates[found[0]] if found else lr",
        "rate = lr",
        LIGHT,
    ),
    Mutant("pairs/ties-by-order", "src/equipoise/measure/pairs.py", "2 * last - count + 1", "2 * last", PAIRS),
    Mutant(
        "pairs/one-tail", "src/equipoise/measure/pairs.py", "min(1.0, 2 * float(tail))", "min(1.0, float(tail))", PAIRS
    ),
    Mutant("pairs/half-a-tost", "src/equipoise/measure/pairs.py", "float(max(t.sf(", "float(min(t.sf(", PAIRS),
    Mutant(
        "pairs/lost-runs-score-zero",
        "src/equipoise/measure/pairs.py",
        "else -math.inf for",
        "else math.inf for",
        PAIRS,
    ),
    Mutant("pairs/holm-is-bonferroni", "src/equipoise/measure/pairs.py", "(m - np.arange(m))", "m", PAIRS),
)
