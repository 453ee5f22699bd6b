"""Sabotages of the data: readers, splits, batches, augmentation, cache."""

from tests.mutants import Mutant

SPLITS, AUGMENT = "src/equipoise/data/splits.py", "src/equipoise/data/augment.py"
TYPES, IDX = "src/equipoise/data/types.py", "src/equipoise/data/idx.py"
CIFAR, PARQUET = "src/equipoise/data/cifar.py", "src/equipoise/data/parquet.py"
IMAGES, CACHE = "src/equipoise/data/images.py", "src/equipoise/data/cache.py"
WHITEN = "src/equipoise/data/whiten.py"
DIGITS, USER = "src/equipoise/data/digits.py", "src/equipoise/data/user.py"

DIVIDING = ("tests/invariants/test_data_splits.py",)
AUGMENTING = ("tests/invariants/test_data_augment.py",)
FORMATS = ("tests/reliability/test_data_formats.py",)
FILES = ("tests/reliability/test_data_files.py",)
CACHED = ("tests/reliability/test_data_cache.py",)
WHITE = ("tests/identity/test_whitening.py",)
OWN = ("tests/reliability/test_data_user.py",)

MUTANTS = (
    Mutant("data/hold-out-overlaps", SPLITS, "permutation[held:].sort()", "permutation.sort()", DIVIDING),
    Mutant(
        "data/hold-out-ignores-seed", SPLITS, 'generator(seed, "hold_out", total)', 'generator("hold_out")', DIVIDING
    ),
    Mutant("data/hold-out-takes-the-first", SPLITS, "permutation[:held].sort()", "torch.arange(held).sort()", DIVIDING),
    Mutant("data/order-ignores-epoch", SPLITS, '"order", n, epoch', '"order", n', DIVIDING),
    Mutant("data/order-ignores-seed", SPLITS, 'generator(seed, "order"', 'generator("order"', DIVIDING),
    Mutant("data/scale-256", TYPES, ".div_(255)", ".div_(256)", DIVIDING + FORMATS),
    Mutant("data/label-range-off-by-one", TYPES, "labels >= count)", "labels > count)", OWN),
    Mutant("data/nan-passes", TYPES, "if not bool(finite.all()):", "if not bool(finite.any()):", OWN),
    Mutant("data/one-crop-for-all", AUGMENT, "(2, batch, 1), gen", "(2, 1, 1), gen", AUGMENTING),
    Mutant("data/crop-never-farthest", AUGMENT, "2 * padding + 1, (", "2 * padding, (", AUGMENTING),
    Mutant("data/flip-up-down", AUGMENT, "images.flip(-1)", "images.flip(-2)", AUGMENTING),
    Mutant("data/mirror-off-by-one", AUGMENT, "width - 1 - columns", "width - columns", AUGMENTING),
    Mutant("data/rows-and-columns-swapped", AUGMENT, "rows = offset[0]", "rows = offset[1]", AUGMENTING),
    Mutant("data/idx-little-endian", IDX, '">u4"', '"<u4"', FORMATS),
    Mutant("data/idx-longer-passes", IDX, "if len(body) != size:", "if len(body) < size:", FILES),
    Mutant("data/cifar-coarse-label", CIFAR, "rows[:, label_bytes - 1]", "rows[:, 0]", FORMATS),
    Mutant("data/cifar-cut-passes", CIFAR, "if len(raw) % record:", "if not raw:", FILES),
    Mutant("data/parquet-shard-lost", PARQUET, "len(paths) != int(match[1])", "len(paths) > int(match[1])", FORMATS),
    Mutant("data/jpeg-unsaid", PARQUET, "content.startswith(JPEG)", "content.endswith(JPEG)", FORMATS),
    Mutant(
        "data/channels-interleaved", IMAGES, "permute(0, 3, 1, 2)", "reshape(count, channels, height, width)", FORMATS
    ),
    Mutant("data/cache-ignores-source", CACHE, "!= (_VERSION, source)", "!= (_VERSION, about.get('source'))", CACHED),
    Mutant("data/cache-trusts-damage", CACHE, 'about["checksum"] != _checksum(images, labels)', "False", CACHED),
    Mutant("data/digits-test-in-train", DIGITS, "(~held).nonzero()", "(held | ~held).nonzero()", DIVIDING),
    Mutant(
        "data/whitening-off-centre",
        WHITEN,
        "images.flatten(1).to(self.mean) - self.mean",
        "images.flatten(1).to(self.mean)",
        WHITE,
    ),
    Mutant("data/whitening-by-a-rotation", WHITEN, ".rsqrt() @ directions.T", ".rsqrt()", WHITE),
    Mutant("data/whitening-one-over-variance", WHITEN, "+ eps).rsqrt()", "+ eps).reciprocal()", WHITE),
    Mutant("data/whitening-divides-by-chunks", WHITEN, "alpha=1 / len(split)", "alpha=1 / len(centred)", WHITE),
    Mutant("data/classes-one-short", USER, "range(max(largest, 0) + 1)", "range(max(largest, 1))", OWN),
)
