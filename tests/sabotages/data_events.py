"""Sabotages of data over time and of augmentation: operations, events, moving digits, files of event cameras."""

from tests.mutants import Mutant

WARPS, COLOUR = "src/equipoise/data/warps.py", "src/equipoise/data/colour.py"
LIST, FRAMES = "src/equipoise/data/augmentation.py", "src/equipoise/data/frames.py"
MOVING, AEDAT = "src/equipoise/data/moving.py", "src/equipoise/data/aedat.py"
SETS, TONIC = "src/equipoise/data/events.py", "src/equipoise/data/tonic.py"
ROWS, AUGMENT = "src/equipoise/data/sequences.py", "src/equipoise/data/augment.py"

CHANGED = ("tests/invariants/test_augmentation.py",)
SEEN = ("tests/identity/test_events.py",)
FILES = ("tests/reliability/test_event_files.py",)
ERRATA = ("tests/reference/test_errata_events.py",)

MUTANTS = (
    Mutant(
        "events/deletes-nothing", WARPS, "kept = steps - max(1, round(share * steps))", "kept = steps", CHANGED + ERRATA
    ),
    Mutant("events/deleted-out-of-order", WARPS, "order[:, :kept].sort(1).values", "order[:, :kept]", CHANGED),
    Mutant(
        "events/cutout-is-red",
        WARPS,
        "torch.where(box, level",
        "torch.where(box & (torch.arange(flat.shape[1], device=flat.device) < 1)[:, None, None], level",
        CHANGED,
    ),
    Mutant("events/rotation-shears", WARPS, "-sin * (height / width)", "-sin", CHANGED),
    Mutant("events/window-leaves-the-picture", WARPS, "(1 - width) * (2 * left - 1)", "2 * left - 1", CHANGED),
    Mutant("events/frames-move-apart", AUGMENT, "images.flatten(1, 2)", "images.flatten(0, 1)", CHANGED),
    Mutant("events/hue-turns-back", COLOUR, "+ 6 * turns", "- 6 * turns", CHANGED),
    Mutant(
        "events/mirrors-gestures",
        LIST,
        "if handed and operation.mirrors:",
        "if upright and operation.mirrors:",
        CHANGED,
    ),
    Mutant("events/one-of-several-for-all", LIST, "(len(images),), generator", "(1,), generator", CHANGED),
    Mutant("events/off-above-on", FRAMES, "off = 1 - events.on", "off = 0 + events.on", SEEN + FILES),
    Mutant("events/time-as-count", FRAMES, 'if by == "count":', "if by:", SEEN),
    Mutant("events/areas-not-means", FRAMES, "shared / (right - left)", "shared", SEEN),
    Mutant("events/counts-scaled", FRAMES, "(0, index).to(torch.float32), self", "(0, index) / 255, self", SEEN),
    Mutant("events/dark-digits-bright", MOVING, "1 - light, light)", "light, light)", SEEN),
    Mutant("events/south-is-north", MOVING, "-angle.sin()", "angle.sin()", SEEN),
    Mutant("events/threshold-not-floored", MOVING, "+ 1e-4).floor()", "+ 1e-4).ceil()", SEEN),
    Mutant("events/columns-for-rows", AEDAT, "(word >> 17).astype", "((word >> 2) & 0x7FFF).astype", FILES),
    Mutant("events/clock-never-overflows", AEDAT, "(overflow << 31)", "0", FILES),
    Mutant("events/invalid-counts", AEDAT, "pairs[pairs[:, 0] & 1 == 1]", "pairs", FILES),
    Mutant("events/on-is-off", AEDAT, "word & 1 == 0)", "word & 1 == 1)", FILES),
    Mutant("events/user-23-tests", SETS, "int(user[1]) <= _TRAINED", "int(user[1]) < _TRAINED", FILES),
    Mutant("events/ranges-overlap", SETS, "min(end, following)", "end", FILES),
    Mutant("events/tenth-by-text", SETS, 'int("0" + "".join(re.findall(r"\\d+$", path.stem)))', "path.stem", FILES),
    Mutant("events/tonic-in-its-order", TONIC, "items = sorted(", "items = list(", FILES),
    Mutant("events/columns-shown", ROWS, "images.transpose(1, 2)", "images.transpose(1, 3)", SEEN),
)
