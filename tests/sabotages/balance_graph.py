"""Sabotages of the scaling graph: wrong ties, boundaries that are passed over, exponents the wrong way round."""

from tests.mutants import Mutant

SOURCE = "src/equipoise/balance/"
LEDGER, CONDITIONS, ELIMINATION = SOURCE + "ledger.py", SOURCE + "conditions.py", SOURCE + "elimination.py"
TRACE, SIGNALS, HELD, GRAPH = SOURCE + "trace.py", SOURCE + "signals.py", SOURCE + "held.py", SOURCE + "graph.py"
LAYERS, MORE, ELEMENTWISE = SOURCE + "layers.py", SOURCE + "layers_recurrent.py", SOURCE + "layers_elementwise.py"
POOLING, SHAPE, EXAMPLES = SOURCE + "layers_pooling.py", SOURCE + "layers_shape.py", SOURCE + "examples.py"

NETS = ("tests/transforms/test_balance_graph.py",)
PARTS = ("tests/transforms/test_balance_graph_parts.py",)
WRITTEN = ("tests/transforms/test_balance_graph_written.py",)
INPUTS = ("tests/transforms/test_balance_graph_inputs.py",)
CALLS = ("tests/transforms/test_balance_graph_calls.py",)
RANDOM = ("tests/invariants/test_balance_graph_random.py",)
UNITS = ("tests/identity/test_local_and_bipu.py",)

MUTANTS = (
    Mutant(
        "graph/groups-of-a-convolution-forgotten",
        LAYERS,
        "below.reshape(groups, fan)[group].reshape(-1, fan, *axes)",
        "below[:fan].reshape(1, fan, *axes)",
        NETS,
    ),
    Mutant("graph/transposed-kernel-not-transposed", LAYERS, '"transpose" in call.name', "False", NETS),
    Mutant(
        "graph/positions-of-a-shared-kernel-untied",
        LAYERS,
        "if k != channel], why).reshape(-1)",
        "if k == 0], why).select(-1, 0).select(-1, 0).reshape(-1)",
        NETS,
    ),
    Mutant("graph/bias-not-scaled", LAYERS, "row.expand(held.shape), call.builder.visible()", "*[row] * 2", NETS),
    Mutant(
        "graph/contraction-untied",
        LAYERS,
        'builder.tie_along(terms, summed, "summed with visible signals")',
        "terms[tuple(slice(0, 1) if k in summed else slice(None) for k in range(terms.ndim))]",
        NETS,
    ),
    Mutant("graph/batch-norm-passes-its-input", MORE, '    call.bound([x], "normalises', '    (lambda *_, **__: None)([x], "normalises', PARTS),
    Mutant("graph/recurrence-reads-the-input", MORE, "zip((x, h), weights", "zip((x, x), weights", NETS),
    Mutant("graph/given-start-ignored", MORE, "call.gains(start)[layer * ways + way]", "h", PARTS),
    Mutant(
        "graph/queries-apart-from-keys",
        MORE,
        "(1.0, k.unsqueeze(-3))",
        "(1.0, k.unsqueeze(-3) * 0)",
        NETS,
    ),
    Mutant("graph/added-constant-passes", ELEMENTWISE, "len(moving) + len(weights) < len(terms)", "False", PARTS),
    Mutant("graph/addition-unties", ELEMENTWISE, "    for other in ids[1:]:", "    for other in ids[2:]:", NETS),
    Mutant("graph/product-keeps-one-factor", ELEMENTWISE, "[(1.0, call.gains(a)), (1.0, call.gains(b))]", "[(1.0, call.gains(a))]", NETS),
    Mutant("graph/quotient-adds", ELEMENTWISE, "(-1.0, call.gains(b))", "(1.0, call.gains(b))", NETS),
    Mutant("graph/power-ignored", ELEMENTWISE, "    return _one(call, power)", "    return _one(call, 1.0)", NETS),
    Mutant("graph/clamp-anywhere", ELEMENTWISE, "limit is None or limit == 0 or", "True or", PARTS),
    Mutant("graph/comparison-passes", ELEMENTWISE, "    if _number(other) != 0:\n        both", "    if False:\n        both", PARTS),
    Mutant("graph/pooled-window-untied", POOLING, "    call.builder.tie(patches[inside]", "    slice(patches[inside]", NETS),
    Mutant("graph/padding-bounds", SHAPE, "zeros = call.builder.zeros(shape)", "zeros = call.builder.visible(shape)", NETS),
    Mutant("graph/assignment-unseen", SHAPE, '    call.builder.tie(held, ids, "written', '    slice(held, ids, "written', NETS),
    Mutant("graph/unknown-operations-pass", TRACE, '    call.bound(values, "not known', '    slice(values, "not known', PARTS),
    Mutant("graph/output-not-fixed", TRACE, 'watched.builder.fix(watched.gains(value), "output', 'str("output', NETS),
    Mutant("graph/buffers-change", TRACE, "not moves and not (writes and", "not moves and not (False and", CALLS),
    Mutant("graph/model-left-changed", EXAMPLES, "                module.__dict__.clear()\n                module.__dict__.update(attributes)\n", "", CALLS),
    Mutant("graph/zeros-stay-zero", SIGNALS, "        self._zeros -= {id(twin), id(twin._base)}", "        del twin", WRITTEN),
    Mutant("graph/one-use-of-a-shared-weight", CONDITIONS, '(-1.0, other.into), (1.0, other.out_of)', '(-1.0, one.into), (1.0, one.out_of)', NETS),
    Mutant("graph/zeros-of-a-weight-count", CONDITIONS, "    return (parameter.detach() != 0).cpu()", "    return None", PARTS),
    Mutant("graph/rows-joined-too-soon", CONDITIONS, "(mask.all(sorted(axes)) if axes else mask).any()", "mask.any()", PARTS),
    Mutant("graph/views-of-a-weight-overlap", HELD, "        cover[index] = True", "        cover[:] = True", NETS),
    Mutant("graph/permuted-weight-unpermuted", HELD, "self.order.index(axis) for axis", "axis for axis", NETS),
    Mutant("graph/sums-cancel-to-rounding", ELIMINATION, "> _ROUNDING * size", "> 0", RANDOM),
    Mutant("graph/rows-not-carried-back", ELIMINATION, "        pivots[node] = _reduced(pivots[node], pivots)", "        pass", RANDOM),
    Mutant("graph/gather-forgets-powers", LEDGER, "gradient[..., node] * weight", "gradient[..., node]", RANDOM),
    Mutant("graph/idle-zeros-are-free", LEDGER, "(node,)) if live[variable]}", "(node,))}", NETS),
    Mutant("graph/indices-of-the-example-bind", SIGNALS, "value.is_meta or id(value) in self._varying", "value.is_meta", INPUTS),
    Mutant("graph/zeros-relied-on-for-ever", GRAPH, "weight.detach()[zero.to(weight.device)].any()", "False", INPUTS),
    Mutant("graph/returned-weights-scaled", TRACE, 'watched.builder.pin(held.name, "returned by the model")', "pass", INPUTS),
    Mutant("graph/shared-memory-scaled-twice", SOURCE + "builder.py", "        apart_in_memory(self.parameters)\n", "", INPUTS),
    Mutant("graph/before-batch-norm-rescaled", GRAPH, "if idle and before and before <= free_of_scale:", "if False:", PARTS),
    Mutant("units/local-kernels-by-channel", "src/equipoise/nn/local.py", ".permute(2, 1, 0)\n        out =", ".permute(2, 1, 0).flip(0)\n        out =", UNITS),
    Mutant("units/power-of-the-sign", "src/equipoise/functional/bipu.py", "x.abs().pow(c)", "x.pow(c)", UNITS),
    Mutant("units/probe-is-lenient", "src/equipoise/balance/homogeneous.py", "<= tolerance * (1", "<= 1.0 * (1", UNITS),
)  # fmt: skip
