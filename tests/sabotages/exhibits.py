"""Sabotages of exhibits: numbers, curves and pictures that would be wrong in print."""

from tests.mutants import Mutant

PICKING = "src/equipoise/papers/picking.py"
ACCURACY = "src/equipoise/papers/pepita/figures_accuracy.py"
TRAINING = "src/equipoise/papers/pepita/figures_training.py"
WEIGHTS = "src/equipoise/papers/pepita/figures_weights.py"
EMBEDDING = "src/equipoise/papers/pepita/figures_embedding.py"
PAGES = "src/equipoise/cli/pages.py"
REPORT = "src/equipoise/cli/report.py"
RUN = "src/equipoise/cli/run.py"
CURVES = "src/equipoise/plots/curves.py"
SPREAD = "src/equipoise/plots/distributions.py"
README = "src/equipoise/report/listing.py"

SHARED = ("tests/reliability/test_exhibits.py",)
MADE_UP = ("tests/reliability/test_pepita_exhibits.py",)
NETWORKS = ("tests/reliability/test_pepita_networks.py",)
PLOTS = ("tests/invariants/test_plots.py",)

MUTANTS = (
    Mutant(
        "exhibits/version-of-the-asking", RUN, "(experiments[run.experiment] if shared else asking)", "asking", SHARED
    ),
    Mutant(
        "exhibits/run-listed-twice",
        PAGES,
        '        listed = [r for r in mine if r["experiment"] == name or',
        "        listed = [r for r in mine if True or",
        SHARED,
    ),
    Mutant(
        "exhibits/csv-of-a-part",
        REPORT,
        "_write_tables(Path(flags.csv), [*every,",
        "_write_tables(Path(flags.csv), [*rows,",
        SHARED,
    ),
    Mutant(
        "exhibits/csv-without-diverged",
        REPORT,
        "[*every, *blown]",
        "[*every]",
        SHARED,
    ),
    Mutant("exhibits/epoch-forgotten", PAGES, "if number.epoch is None:", "if True:", SHARED),
    Mutant("exhibits/settings-averaged", PICKING, "setdefault(_spec(row), {})", "setdefault((), {})", SHARED),
    Mutant(
        "exhibits/presets-mixed", PICKING, 'str(row.get("preset") or ""))', 'str(row.get("preset") or "")[:5])', SHARED
    ),
    Mutant("exhibits/smoke-beside-paper", PICKING, "shown = real or parts", "shown = parts", SHARED),
    Mutant(
        "exhibits/two-deviations",
        PICKING,
        "[e.mean - e.sd for e in found]",
        "[e.mean - 2 * e.sd for e in found]",
        SHARED,
    ),
    Mutant(
        "exhibits/paper-minus-ours",
        ACCURACY,
        "fixed(sum(ours) / len(ours) - theirs.value",
        "fixed(theirs.value - sum(ours) / len(ours)",
        MADE_UP,
    ),
    Mutant(
        "exhibits/fractions-in-table-1",
        ACCURACY,
        "ours = [100 * value for value in values_of(rows, ACCURACY)]",
        "ours = values_of(rows, ACCURACY)",
        MADE_UP,
    ),
    Mutant(
        "exhibits/settings-of-another-experiment",
        README,
        "for part in parts for one in group(part, METRIC)",
        "for one in group(held, METRIC)",
        ("tests/reliability/test_report_tables.py",),
    ),
    Mutant(
        "exhibits/epoch-number-as-final",
        ACCURACY,
        "n.metric == ACCURACY and n.epoch is None and",
        "n.metric == ACCURACY and",
        MADE_UP,
    ),
    Mutant("exhibits/log-points-in-per-cent", ACCURACY, "n.value / n.factor", "n.value", MADE_UP),
    Mutant(
        "exhibits/f-is-never-zero",
        ACCURACY,
        'if row.get("options.scale") == 0:',
        'if row.get("options.scale"):',
        MADE_UP,
    ),
    Mutant("exhibits/layers-off-by-one", ACCURACY, '.partition(",")[0].count("-"))', '.count("-") + 1)', MADE_UP),
    Mutant(
        "exhibits/last-norm-for-first",
        TRAINING,
        "_norms(members, histories)[:1]",
        "_norms(members, histories)[-1:]",
        MADE_UP,
    ),
    Mutant("exhibits/sixty-epochs", TRAINING, "FIRST = 59", "FIRST = 60", MADE_UP),
    Mutant("exhibits/short-fit-compared", TRAINING, "theirs is not None and whole", "theirs is not None", MADE_UP),
    Mutant("exhibits/chance-of-a-coin", TRAINING, "1 / int(classes[1])", "1 / 2", MADE_UP),
    Mutant(
        "exhibits/layers-swapped", WEIGHTS, '(("first", 0), ("output", -1))', '(("first", -1), ("output", 0))', NETWORKS
    ),
    Mutant(
        "exhibits/absolute-movement",
        WEIGHTS,
        "return (moved / sum(float(before.double().square().sum()) for before, _ in pairs)) ** 0.5",
        "return moved**0.5",
        NETWORKS,
    ),
    Mutant("exhibits/movement-of-every-layer", WEIGHTS, "if p.ndim == 4 and", "if", NETWORKS),
    Mutant(
        "exhibits/infinite-freedom-lost", WEIGHTS, '"∞" if metric == "nu" and', '"∞" if metric == "std" and', NETWORKS
    ),
    Mutant("exhibits/same-network-twice", EMBEDDING, "        model.load_state_dict(held)\n", "", NETWORKS),
    Mutant(
        "exhibits/readout-for-hidden",
        EMBEDDING,
        "before = hidden_activity(model, x, layers[-2])",
        "before = hidden_activity(model, x, layers[-1])",
        NETWORKS,
    ),
    Mutant(
        "exhibits/published-on-another-curve",
        CURVES,
        "color = looks([name], order or list(series))[name].color",
        "color = LOOKS[0].color",
        PLOTS,
    ),
    Mutant("exhibits/counts-for-density", SPREAD, "/ values[name].size / np.diff(edges)", "/ values[name].size", PLOTS),
)
