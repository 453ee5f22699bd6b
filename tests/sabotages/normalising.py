"""Sabotages of what the I-Norm experiments measure, test and shine on images, and of how they pair their runs."""

from tests.mutants import Mutant

NORMALISING, PAIRS = "src/equipoise/measure/normalising.py", "src/equipoise/measure/pairs.py"
LIGHT, CONDITIONS = "src/equipoise/data/luminance.py", "src/equipoise/papers/inorm/conditions.py"
PAIRING = "src/equipoise/papers/inorm/pairing.py"

MEASURED = ("tests/identity/test_normalising.py",)
TESTED = ("tests/reference/test_pairs.py",)
LIT = ("tests/identity/test_luminance.py",)
SPECS = tuple(
    f"tests/papers/test_inorm_specs.py::test_{name}"
    for name in (
        "draws_are_prefixes_and_log_uniform",
        "pepita_trains_plain_networks_that_differ_in_what_is_centred_alone",
    )
)

MUTANTS = (
    Mutant(
        "normalising/output-against-itself", NORMALISING, "cosine(normal.relu(), z.relu())", "cosine(z, z)", MEASURED
    ),
    Mutant("normalising/pooling-against-ln", NORMALISING, 'circuit.edit.modes == {"lateral"}', "False", MEASURED),
    Mutant(
        "normalising/gradnorm-in-both",
        NORMALISING,
        "modes, circuit.edit.modes = circuit.edit.modes, frozenset()",
        "modes = circuit.edit.modes",
        MEASURED,
    ),
    Mutant(
        "normalising/gradnorm-stays-off", NORMALISING, "        circuit.edit.modes = modes", "        pass", MEASURED
    ),
    Mutant("normalising/twin-loses-its-bias", NORMALISING, "else z + circuit.bias", "else z", MEASURED),
    Mutant("normalising/twin-loses-its-inner-bias", NORMALISING, "circuit.bias if inside else None", "None", MEASURED),
    Mutant(
        "normalising/twin-stays",
        NORMALISING,
        "stack.callback(circuit.register_forward_hook(instead).remove)",
        "circuit.register_forward_hook(instead)",
        MEASURED,
    ),
    Mutant(
        "normalising/second-is-the-variance", NORMALISING, "mean(z.square(), dim=dim)", "variance(z, dim=dim)", MEASURED
    ),
    Mutant(
        "normalising/moments-of-the-first-alone",
        NORMALISING,
        "seen.append(given[0]",
        "seen or seen.append(given[0]",
        MEASURED,
    ),
    Mutant(
        "normalising/hooks-stay",
        NORMALISING,
        "            hook.remove()\n    found: dict",
        "            pass\n    found: dict",
        MEASURED,
    ),
    Mutant("normalising/flips-of-zeros", NORMALISING, "held = a != 0", "held = a == a", MEASURED),
    Mutant(
        "normalising/weights-flip-as-errors",
        NORMALISING,
        '"weight_flips": _changed(plain, centred)',
        '"weight_flips": _changed(error, moved)',
        MEASURED,
    ),
    Mutant(
        "pairs/effect-reversed",
        PAIRS,
        "effect = (2 * above - total) / total",
        "effect = (total - 2 * above) / total",
        TESTED,
    ),
    Mutant("pairs/zeros-are-ranked", PAIRS, "d = d[d != 0]", "d = d[d == d]", TESTED),
    Mutant("pairs/margin-twice", PAIRS, "t.sf((margin - m) / s", "t.sf((2 * margin - m) / s", TESTED),
    Mutant("pairs/population-error", PAIRS, "d.std(ddof=1)", "d.std(ddof=0)", TESTED),
    Mutant(
        "pairs/holm-goes-down",
        PAIRS,
        "np.maximum.accumulate(values[order] * (m - np.arange(m)))",
        "values[order] * (m - np.arange(m))",
        TESTED,
    ),
    Mutant("pairs/lost-runs-are-ties", PAIRS, "else -math.inf for v, ok", "else floor for v, ok", TESTED),
    Mutant(
        "pairs/lost-runs-uncounted", PAIRS, "lost.append(held.count(False))", "lost.append(held.count(None))", TESTED
    ),
    Mutant(
        "pairs/higher-is-lower",
        PAIRS,
        '"higher" if self.wilcoxon.effect > 0',
        '"higher" if self.wilcoxon.effect < 0',
        TESTED,
    ),
    Mutant("pairs/normal-from-the-start", PAIRS, "if len(d) <= COUNTED:", "if len(d) <= 0:", TESTED),
    Mutant(
        "pairs/delta-unscaled",
        PAIRS,
        "2 * u / (len(first) * len(second)) - 1",
        "u / (len(first) * len(second)) - 1",
        TESTED,
    ),
    Mutant(
        "light/one-for-all",
        LIGHT,
        "torch.rand(2, count, generator=stream)",
        "torch.rand(2, 1, generator=stream).expand(2, count)",
        LIT,
    ),
    Mutant(
        "light/only-brighter",
        LIGHT,
        "unit = 2 * torch.rand(2, count, generator=stream) - 1",
        "unit = torch.rand(2, count, generator=stream)",
        LIT,
    ),
    Mutant("light/gain-about-black", LIGHT, "mean + gain * (images - mean)", "gain * images", LIT),
    Mutant(
        "light/mean-of-the-batch",
        LIGHT,
        "images.mean(tuple(range(1, images.ndim)), keepdim=True)",
        "images.mean()",
        LIT,
    ),
    Mutant(
        "light/one-for-every-split", LIGHT, 'generator(self.seed, "light", name)', 'generator(self.seed, "light")', LIT
    ),
    Mutant(
        "light/taken-in-the-first-light",
        LIGHT,
        "drawn = self.drawn.index_select(1, index.to(self.drawn.device))\n",
        "drawn = self.drawn[:, : len(index)]\n",
        LIT,
    ),
    Mutant("light/standardised-passes", LIGHT, "images.is_floating_point() and len(split)", "False", LIT),
    Mutant("light/range-unchecked", LIGHT, "or not 0 <= value <= 1:", "or not 0 <= value:", LIT),
    Mutant("inorm-specs/upper-is-all", CONDITIONS, "start = (low + high) / 2 if upper else low", "start = low", SPECS),
    Mutant("inorm-specs/draws-share-a-rate", CONDITIONS, "zip(u[1:], (", "zip(u[:1] * 3, (", SPECS),
    Mutant(
        "inorm-specs/pepita-with-circuits", CONDITIONS, '"group_rates": {}', '"group_rates": run.group_rates', SPECS
    ),
    Mutant(
        "inorm-specs/any-rule-is-pepita",
        CONDITIONS,
        '(row.get("rule"), given) == ("pepita", self.pepita)',
        "given == self.pepita",
        SPECS,
    ),
    Mutant("inorm-specs/pairs-of-one-option", PAIRING, "and k != _TAUGHT}", "}", SPECS),
)
