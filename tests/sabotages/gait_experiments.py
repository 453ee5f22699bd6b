"""Sabotages of the GAIT-prop experiments, their networks, what they follow, and images that stay on disk."""

from tests.mutants import Mutant

CONDITIONS, STUDIES = "src/equipoise/papers/gait/conditions.py", "src/equipoise/papers/gait/studies.py"
FIGURES, PUBLISHED = "src/equipoise/papers/gait/figures_compared.py", "src/equipoise/papers/gait/published.toml"
NETWORKS, MEASURE = "src/equipoise/models/invertible.py", "src/equipoise/measure/orthogonality.py"
LOOP, TOTALS, FOLDERS = (
    "src/equipoise/train/loop.py",
    "src/equipoise/train/totals.py",
    "src/equipoise/data/folders.py",
)
TARGETS = "src/equipoise/rules/target.py"
SPECS = ("tests/papers/test_gait_specs.py",)
MODELS = ("tests/invariants/test_invertible_models.py",)
FOLLOWED = ("tests/invariants/test_run_measures.py",)
PICTURES = ("tests/reliability/test_image_folders.py",)
NOISE = ("tests/identity/test_gait_noise.py",)

MUTANTS = (
    Mutant("gait/lambda-of-a-sum", CONDITIONS, "strength / network.batch_size", "strength", SPECS),
    Mutant(
        "gait/epsilon-of-a-sum",
        CONDITIONS,
        "network.epsilons[place] / network.batch_size",
        "network.epsilons[place]",
        SPECS,
    ),
    Mutant("gait/fa-at-backprops-rate", CONDITIONS, "place = 0 if self.slow else 1", "place = 1", SPECS),
    Mutant("gait/bp-with-auxiliary-units", CONDITIONS, '"bp", auxiliary=False)', '"bp")', SPECS),
    Mutant(
        "gait/control-inverts",
        CONDITIONS,
        '"BP, auxiliary units and penalty", "penalty", inverse="transpose"',
        '"BP, auxiliary units and penalty", "penalty", inverse="solve"',
        SPECS,
    ),
    Mutant("gait/control-has-a-task", CONDITIONS, 'loss="nothing"', 'loss="cross_entropy"', SPECS),
    Mutant("gait/looks-train", STUDIES, '"lr": 0.0', '"lr": 0.001', SPECS),
    Mutant("gait/one-layer-too-few", STUDIES, "[kept] * hidden", "[kept] * (hidden - 1)", SPECS),
    Mutant("gait/a-number-mistyped", PUBLISHED, "value = 92.4", "value = 94.2", SPECS),
    Mutant(
        "gait/steps-without-an-angle-are-zero",
        FIGURES,
        'points = [p[metric] for p in followed.get(str(row["hash"]), ()) if p.get(metric) is not None]',
        'points = [p.get(metric) or 0 for p in followed.get(str(row["hash"]), ())]',
        SPECS,
    ),
    Mutant(
        "gait/odd-zero-above", NETWORKS, "(total // 2, total - total // 2)", "(total - total // 2, total // 2)", MODELS
    ),
    Mutant("gait/spread-everywhere", NETWORKS, "alpha=size / layer.fan_in**0.5", "alpha=size", MODELS),
    Mutant(
        "gait/twins-of-other-weights",
        NETWORKS,
        'generator(torch.initial_seed(), "layer", place)',
        "torch.default_generator",
        MODELS,
    ),
    Mutant("gait/first-layer-counts", MEASURE, "in flat[1:] if", "in flat if", MODELS),
    Mutant(
        "gait/followed-after-the-update",
        LOOP,
        "self.step % run.measure_every == 0",
        "self.step % run.measure_every == 1",
        FOLLOWED,
    ),
    Mutant(
        "gait/followed-is-forgotten", LOOP, 'self.followed = saved.get("followed", [])', "self.followed = []", FOLLOWED
    ),
    Mutant(
        "gait/ties-are-hits",
        TOTALS,
        "(~(output < own)).sum(1) <= self._top",
        "(output > own).sum(1) < self._top",
        FOLLOWED,
    ),
    Mutant(
        "gait/another-file-decoded",
        FOLDERS,
        "for row in dict.fromkeys(rows)",
        "for row in dict.fromkeys(index.tolist())",
        PICTURES,
    ),
    Mutant("gait/squashed-is-cropped", FOLDERS, "FITS[self.fit](self.size)", 'FITS["crop"](self.size)', PICTURES),
    Mutant("gait/starts-stay-in-memory", FOLDERS, "self._asked.pop(row, None) or", "self._asked.get(row) or", PICTURES),
    Mutant("gait/noise-of-a-sum", TARGETS, "2 * level / x.shape[0]", "2 * level", NOISE),
    Mutant("gait/no-noise-in-targets", TARGETS, "disturb=disturb if options.noise else None", "disturb=None", NOISE),
)
