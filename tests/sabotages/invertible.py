"""Sabotages of layers that run backwards: inverses, patches, penalties, activations, the widening of a chain."""

from tests.mutants import Mutant

SOURCE = "src/equipoise/"
INVERSE, ORTHOGONAL = SOURCE + "functional/inverse.py", SOURCE + "functional/orthogonal.py"
PATCHES, UNITS = SOURCE + "functional/patches.py", SOURCE + "functional/activations.py"
LAYERS, WIDEN, HELD = SOURCE + "nn/invertible.py", SOURCE + "nn/widen.py", SOURCE + "nn/orthogonal.py"

SOLVED, PIECES = ("tests/identity/test_inverse.py",), ("tests/identity/test_patches.py",)
CHAINS, COPIES = ("tests/identity/test_invertible.py",), ("tests/transforms/test_invertible.py",)
REFUSED = ("tests/reliability/test_invertible_input.py",)

MUTANTS = (
    Mutant(
        "inverse/solves-the-transpose",
        INVERSE,
        "torch.linalg.solve(wide(matrix).T,",
        "torch.linalg.solve(wide(matrix),",
        SOLVED,
    ),
    Mutant("inverse/directions-forgotten", INVERSE, "* step\n    return x", "* ascent\n    return x", SOLVED),
    Mutant("inverse/one-rate-for-all-rows", INVERSE, "rate = size / moved", "rate = size.mean() / moved", SOLVED),
    Mutant("inverse/newton-schulz-overshoots", INVERSE, "2 * inverse - inverse", "3 * inverse - inverse", SOLVED),
    Mutant("inverse/one-refinement-too-few", INVERSE, "for _ in range(count + 1):", "for _ in range(count):", SOLVED),
    Mutant(
        "inverse/residual-of-the-rest", INVERSE, "back[:, : v.shape[1]] -= v", "back[:, -v.shape[1] :] -= v", SOLVED
    ),
    Mutant("inverse/columns-away-from-it", INVERSE, "return columns - left @", "return columns + left @", SOLVED),
    Mutant("inverse/singular-is-merely-large", INVERSE, "math.inf if least <= lost else", "", SOLVED),
    Mutant("inverse/any-condition-will-do", INVERSE, "    if not number <= limit:", "    if False:", REFUSED),
    Mutant(
        "orthogonal/rows-for-columns",
        ORTHOGONAL,
        "    gram = matrix.T @ columns\n",
        "    gram = matrix @ columns.T\n",
        SOLVED,
    ),
    Mutant(
        "orthogonal/factor-of-the-penalty", ORTHOGONAL, "off.square().sum(), 4 * (", "off.square().sum(), 2 * (", SOLVED
    ),
    Mutant("orthogonal/block-at-the-start", ORTHOGONAL, "gram.diagonal(-start)", "gram.diagonal(0)", SOLVED),
    Mutant("orthogonal/polar-step-too-wide", ORTHOGONAL, "1.5 * matrix - 0.5 *", "2 * matrix - 1.0 *", SOLVED),
    Mutant(
        "patches/odd-zero-at-the-top",
        PATCHES,
        "[total // 2, total - total // 2]",
        "[total - total // 2, total // 2]",
        PIECES,
    ),
    Mutant("patches/coverage-one-short", PATCHES, "(high - low.clamp(min=0) + 1)", "(high - low.clamp(min=0))", PIECES),
    Mutant("patches/coverage-beyond-the-edge", PATCHES, ".clamp(max=last)", "", PIECES),
    Mutant(
        "patches/inverse-kernels-transposed",
        PATCHES,
        "inverse.T.reshape(inverse.shape[1]",
        "inverse.reshape(inverse.shape[1]",
        PIECES,
    ),
    Mutant(
        "patches/every-copy-subtracted",
        PATCHES,
        '((n - 1) if overlap == "subtract"',
        '(n if overlap == "subtract"',
        PIECES,
    ),
    Mutant("patches/bare-pixels-forgotten", PATCHES, "else n.clamp(max=1) - 1)", "else 0 * n)", PIECES),
    Mutant(
        "patches/errors-never-divided",
        PATCHES,
        '    if overlap == "subtract":\n        return total',
        "    if True:\n        return total",
        PIECES,
    ),
    Mutant(
        "patches/rest-of-the-image-cut",
        PATCHES,
        "rest = [max(0, wanted - got)",
        "rest = [0 * max(0, wanted - got)",
        PIECES,
    ),
    Mutant(
        "units/slope-rounded",
        UNITS,
        "torch.where(a > 0, torch.ones_like(a), c)",
        "torch.where(a > 0, 1.0, c).to(a.dtype)",
        SOLVED,
    ),
    Mutant("units/saturated-is-infinite", UNITS, "    eps = torch.finfo(a.dtype).eps\n", "    return a\n", SOLVED),
    Mutant(
        "layers/auxiliary-sums-not-completed",
        LAYERS,
        "slice(self.outputs, None))]",
        "slice(self.outputs, None)) * 0]",
        CHAINS,
    ),
    Mutant(
        "layers/bias-left-in",
        LAYERS,
        "        return output - self.bias.reshape",
        "        return output + 0 * self.bias.reshape",
        CHAINS,
    ),
    Mutant(
        "layers/all-units-seen",
        LAYERS,
        "slice(self.outputs)) if self.auxiliary else",
        "slice(None)) if self.auxiliary else",
        CHAINS,
    ),
    Mutant(
        "layers/another-width-cut",
        LAYERS,
        "        if given not in (self.outputs, units):",
        "        if False:",
        REFUSED,
    ),
    Mutant(
        "layers/one-generator-for-all",
        LAYERS,
        "source = generator or torch.default_generator",
        "source = torch.Generator()",
        CHAINS,
    ),
    Mutant(
        "layers/first-is-inverted",
        LAYERS,
        "        if self.first:\n            raise",
        "        if False:\n            raise",
        REFUSED,
    ),
    Mutant("widen/auxiliary-rows-repeat-the-layers", WIDEN, "basis.T[rows:]", "basis.T[: len(basis) - rows]", CHAINS),
    Mutant("widen/bias-forgotten", WIDEN, "new.bias.zero_()[:rows] = layer.bias", "new.bias.zero_()", CHAINS),
    Mutant("widen/first-layer-too", WIDEN, "if k > first else copy.copy(leaf.module)", "", REFUSED + CHAINS),
    Mutant("widen/always-in-place", WIDEN, "model if inplace else copy.deepcopy(model)", "model", CHAINS),
    Mutant("widen/refused-half-way", WIDEN, "            leaf.put(leaf.module)\n", "            pass\n", REFUSED),
    Mutant("widen/orthogonal-is-kept", WIDEN, '    if weights == "orthogonal":', "    if False:", CHAINS),
    Mutant("widen/grouped-passes", WIDEN, "(layer.groups != 1 or", "(False or", REFUSED),
    Mutant("widen/shared-weights-pass", WIDEN, "    if len(names) > 1:", "    if False:", REFUSED),
    Mutant("widen/frozen-thaws", WIDEN, "        new.weight.requires_grad_(layer.weight.requires_grad)\n", "", CHAINS),
    Mutant("held/no-rotation", HELD, "matrix_exp(original - original.T)", "matrix_exp(original)", CHAINS),
    Mutant(
        "held/weight-thrown-away",
        HELD,
        "self.base.copy_(retract(weight.detach().flatten(1)))",
        "self.base.copy_(torch.eye(len(self.base)))",
        CHAINS,
    ),
    Mutant("held/first-layers-too", HELD, " and not layer.first:", ":", REFUSED),
    Mutant(
        "units/own-activation-unknown",
        UNITS,
        "unit.dispatch(type(module)) is not",
        "type(module) is nn.Identity and unit is not",
        ("tests/test_architecture.py::test_targets_pass_back_through_an_activation_from_outside",),
    ),
)
